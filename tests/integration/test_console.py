"""The console of a real Shoal: a virtual service made by its wizard carries traffic."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from shoal.lab.network import Lab
from shoal.lab.trials import PASSWORD
from tests.console.person import FLAGS
from tests.integration.private_shoal import launched

pytestmark = [pytest.mark.root, pytest.mark.beside, pytest.mark.timeout(180)]

PATIENCE_MS = 60_000
FETCH = """
import sys, time, urllib.request
for left in range(40, -1, -1):
    try:
        print(urllib.request.urlopen(f"http://{sys.argv[1]}/", timeout=2).status)
        break
    except OSError:
        if not left:
            raise
        time.sleep(0.25)
"""


async def make(page: Page, servers: list[str]) -> str:
    """By the wizard; returns the address."""
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("link", name="Create a virtual service").click()
    await page.get_by_label("Name", exact=True).fill("shop")
    address = page.get_by_label("VIP address")
    await expect(address).to_have_attribute("placeholder", re.compile(r"\d"))  # the networks are known
    hint = await address.get_attribute("placeholder")
    assert hint
    await address.fill(hint)
    await page.get_by_label("Servers", exact=True).fill("\n".join(servers))
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("shop Up", timeout=PATIENCE_MS)
    return hint


def test_what_the_wizard_makes_is_served(tmp_path: Path) -> None:
    async def check(url: str, lab: Lab) -> None:
        try:
            backends = [await lab.backend(name) for name in ("web1", "web2")]
            await lab.node("client")
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
                page = await browser.new_page(ignore_https_errors=True)
                page.set_default_timeout(PATIENCE_MS)
                await page.goto(url)
                address = await make(page, [f"{b.address}:{b.port}" for b in backends])
                fetch = lab.fabric.enter("lab-client", sys.executable, "-c", FETCH, address)
                fetched = await asyncio.to_thread(subprocess.run, fetch, capture_output=True, text=True, check=True)
                assert fetched.stdout.strip() == "200"
                await expect(page.get_by_role("group", name="shop: served by")).to_contain_text("2 of 2 servers up")
                await page.get_by_role("link", name="Placement map").click()
                await expect(page.get_by_role("button", name="shop", exact=True)).to_be_visible()
                await browser.close()
        finally:
            await lab.close()

    with launched(tmp_path) as bench:
        asyncio.run(check(bench.url, Lab(bench.options.data_dir)))
