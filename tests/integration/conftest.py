"""What these tests start ends with their namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Handles of what is gone already are collected some time, in whatever test runs then: no fault of that one. What does not
    say otherwise measures times."""
    for item in items:
        if HERE in item.path.parents:
            if item.get_closest_marker("beside") is None:
                item.add_marker(pytest.mark.alone)
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
