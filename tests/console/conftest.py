"""A browser, and a Shoal to look at, for all tests of the console. Both end with them: a browser keeps an event loop running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, StorageState, sync_playwright

from shoal.api.web import Web
from tests.api_served import Controller

from .person import FLAGS, Person
from .stage import stage
from .world import ConsoleWorld, console_world

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A page that is drawn takes a processor."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.page)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    assert Web().built, "the console is not built: run scripts/setup --dev"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """Three groups with virtual services, one of each HA mode."""
    directory: Path = tmp_path_factory.mktemp("console")
    with Controller(directory, console_world) as served:
        world = served.world
        assert isinstance(world, ConsoleWorld)
        served.ask(lambda: stage(world))
        yield served


@pytest.fixture(scope="package")
def signed_in(browser: Browser, served: Controller) -> StorageState:
    with Person(browser, served.port) as person:
        person.sign_in()
        return person.state()


@pytest.fixture
def person(browser: Browser, served: Controller, signed_in: StorageState) -> Iterator[Person]:
    """Signed in as admin. At the end there must have been no error and no request to another host."""
    with Person(browser, served.port, state=signed_in) as person:
        person.go("/")
        yield person
        person.check()
