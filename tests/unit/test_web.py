"""The console's files: who gets them, how long they are kept, what the page may load."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from starlette.requests import Request
from starlette.responses import Response

from shoal.api.web import POLICY, Web
from tests.api_world import api_world

SCRIPT = "console.log('shoal');\n" * 100


@pytest.fixture
def web(tmp_path: Path) -> Web:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "assets" / "index-abc.js").write_text(SCRIPT)
    (tmp_path / ".source").write_text("not a page")
    return Web(tmp_path)


def ask(web: Web, path: str, method: str = "GET", **headers: str) -> Response | None:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return web.answer(Request({"type": "http", "method": method, "path": path, "headers": raw, "query_string": b""}))


@pytest.mark.parametrize("path", ["/", "/virtualservices", "/serviceenginegroups/some-uuid/"])
def test_screens_are_the_one_page_with_its_policy(web: Web, path: str) -> None:
    page = ask(web, path, accept="text/html,*/*")
    assert page is not None
    assert page.body == b"<!doctype html>"
    assert page.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert page.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/api/virtualservice", "/login", "/metrics", "/api"])
def test_the_apis_paths_are_the_apis(web: Web, path: str) -> None:
    assert ask(web, path, accept="text/html") is None


def test_who_asks_for_no_page_gets_none(web: Web) -> None:
    assert ask(web, "/", accept="application/json") is None
    assert ask(web, "/", method="POST", accept="text/html") is None
    assert ask(web, "/assets/gone.js", accept="text/html") is None
    assert ask(web, "/.source", accept="text/html") is None
    assert ask(web, "/../app.py", accept="*/*") is None


def test_files_named_by_content_are_kept_and_zipped(web: Web) -> None:
    file = ask(web, "/assets/index-abc.js", accept_encoding="gzip, br")
    assert file is not None
    assert gzip.decompress(bytes(file.body)).decode() == SCRIPT
    assert "immutable" in file.headers["cache-control"]
    again = ask(web, "/assets/index-abc.js", if_none_match=file.headers["etag"])
    assert again is not None and again.status_code == 304 and not again.body


async def test_clients_of_the_api_are_still_welcomed(tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        reply = await world.client.get("/", headers={"Accept": "*/*"})
        assert reply.json()["product"] == "Shoal"
        assert reply.headers["cache-control"] == "no-store"


def test_the_wheel_brings_the_console(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    (built,) = WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        names = wheel.namelist()
    assert "shoal/api/pages/index.html" in names
    assert any(name.startswith("shoal/api/pages/assets/") and name.endswith(".js") for name in names)
    assert not any("node_modules" in name for name in names)
