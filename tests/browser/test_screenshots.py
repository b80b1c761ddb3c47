"""The screenshots of the documentation, of what the tests see. To renew them: HOLDFAST_SCREENSHOTS=docs/dashboard."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.shop import Shop
from tests.browser.site import Watched

pytestmark = pytest.mark.browser

SHOTS = {
    "home": ("", 1280, "light"),
    "home-dark": ("", 1280, "dark"),
    "home-narrow": ("", 320, "light"),
    "jobs": ("jobs?status=dead", 1280, "light"),
    "job": ("jobs/{dead}", 1280, "light"),
    "operation": ("operations/new?action=retry&status=dead", 1280, "light"),
    "queues": ("queues", 1280, "dark"),
}


@pytest.mark.parametrize("name", SHOTS)
def test_a_screenshot_is_taken(visit: Callable[..., Watched], shop: Shop, tmp_path: Path, name: str) -> None:
    path, width, scheme = SHOTS[name]
    page = visit(path.format(**shop.jobs), width=width, color_scheme=scheme, reduced_motion="reduce").page
    expect(page.locator("main h1")).to_be_visible()
    folder = Path(os.environ.get("HOLDFAST_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    taken = page.screenshot(path=folder / f"{name}.png", full_page=True)
    assert len(taken) > 10_000
