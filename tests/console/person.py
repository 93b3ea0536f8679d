"""Somebody at a browser."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, StorageState, expect

from .world import PASSWORD

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = Path(__file__).parents[2] / "console" / "node_modules" / "axe-core" / "axe.min.js"
ALL: dict[str, object] = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
SETTLED = """Promise.allSettled(document.getAnimations()
    .filter(one => one.effect.getComputedTiming().endTime !== Infinity).map(one => one.finished))"""
"""Colours are what they will be only when what is on its way has arrived."""
WAIT_MS = 25_000
"""Machines that run tests do other things too."""
expect.set_options(timeout=WAIT_MS)


class Person:
    """``faults`` collects what browsers complain about, ``hosts`` whom they have asked."""

    def __init__(
        self,
        browser: Browser,
        port: int,
        *,
        width: int = 1280,
        height: int = 860,
        dark: bool = False,
        state: StorageState | None = None,
    ) -> None:
        self.base = f"https://localhost:{port}"
        self._context = browser.new_context(
            ignore_https_errors=True,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            locale="en-GB",
            timezone_id="Europe/Berlin",
            storage_state=state,
        )
        self._context.set_default_timeout(WAIT_MS)
        self.page: Page = self._context.new_page()
        self.faults: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def __enter__(self) -> Person:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.close()

    def sign_in(self, name: str = "admin", password: str = PASSWORD) -> None:
        self.go("/")
        self.page.get_by_label("User name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.locator("nav[aria-label=Sections]")).to_be_attached()  # out of sight on a phone

    def state(self) -> StorageState:
        """Cookies and choices, for another browser."""
        return self._context.storage_state()

    def go(self, path: str) -> None:
        self.page.goto(self.base + path)

    def show(self, path: str) -> None:
        """As by a link: the page stays."""
        self.page.evaluate(
            "path => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')) }", path
        )

    def sees(self, text: str) -> None:
        expect(self.page.get_by_text(text).locator("visible=true").first).to_be_visible()  # a picture's title is none

    def axe(self, rules: dict[str, object] = ALL) -> list[object]:
        """What it objects to on the page as it is now."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text())
        self.page.evaluate(SETTLED)
        found: list[object] = self.page.evaluate(
            "rules => axe.run(document, { runOnly: rules }).then(found => "
            "found.violations.map(one => [one.id, one.nodes.slice(0, 3).map(node => node.html.slice(0, 160))]))",
            rules,
        )
        return found

    def check(self) -> None:
        assert not self.faults, self.faults
        assert self.hosts <= {urlsplit(self.base).netloc, ""}, self.hosts

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)
