"""One browser, one server and one database for all tests of the dashboard; a context of its own for each."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.browser.shop import Shop
from tests.browser.site import Site, Watched, serving, watched
from tests.support import database_copy, open_session

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = Path(__file__).resolve().parents[2] / ".tools" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, "Chromium is missing: scripts/install-system-packages, or leave its tests out: --without browser"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core, which finds what keeps people out."""
    assert AXE.exists(), "axe-core is missing: run scripts/install-system-packages"
    return AXE.read_text()


@pytest.fixture(scope="session")
def shop(bare: str, template: str) -> Iterator[Shop]:
    """A database with jobs in every state."""
    with database_copy(bare, template) as dsn:
        conn = open_session(dsn)
        conn.execute("SELECT 1")
        made = Shop(conn).fill()
        made.dsn = dsn
        yield made
        conn.close()


@pytest.fixture(scope="session")
def site(shop: Shop) -> Iterator[Site]:
    """The dashboard over that database."""
    with serving(shop.dsn) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Callable[..., Watched]]:
    """Opens a page in a context of its own; at the end nothing may have been complained of."""
    contexts: list[BrowserContext] = []
    opened: list[Watched] = []

    def open_page(path: str = "", *, width: int = 1280, on: Site = site, **options: object) -> Watched:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)  # type: ignore[arg-type]
        contexts.append(context)
        opened.append(watched(context))
        opened[-1].page.goto(on.url + path)
        return opened[-1]

    yield open_page
    complaints = [each for page in opened for each in page.complaints]
    for context in contexts:
        context.close()
    assert complaints == []
