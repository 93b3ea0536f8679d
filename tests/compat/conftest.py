"""What all suites of real clients share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .sdk import SdkController


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SdkController]:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they make the SDK verify all calls but the login
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    controller = SdkController(tmp_path)
    with controller:
        yield controller
