"""Chromium on real servers: `page` is a new visitor, logged in as admin, who sees no violation of the policy and no error in the console.

    def test_it(page: Page, served: Serve) -> None:
        page.goto(f"{served.url}/dashboard/health")

`visit(server, scope)` gives visitors of other scopes (None: not logged in); `quiet` is for what shall be in the console.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from pymongo import MongoClient
from pymongo.database import Database

from tests.servers.chromium import find_chromium
from tests.servers.serve import Serve

Docs = Database[dict[str, Any]]
Visit = Callable[..., Page]  # visit(server, scope="admin", **options of a context)
TOKENS = {"read": "r" * 20, "operate": "o" * 20, "admin": "a" * 20}
PATIENCE = 30_000  # milliseconds, on a busy machine
# Kept for the whole life of a page, also over its navigations.
WATCH = """
addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Closed with the last test here: its event loop would be in the way of other tests. It fails, and says what to install, where there is none."""
    expect.set_options(timeout=PATIENCE)
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=find_chromium(), args=[*flags, "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def docs(client: MongoClient[dict[str, Any]]) -> Iterator[Docs]:
    """A database for the tests of a module."""
    name = f"test_{secrets.token_hex(4)}"
    yield client[name]
    client.drop_database(name)


@pytest.fixture(scope="module")
def served(mongo_uri: str, docs: Docs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """`whimbrel serve` with a worker and TOKENS, for the tests of a module; its `client` is an admin."""
    with Serve(
        environment(mongo_uri, docs),
        tmp_path_factory.mktemp("serve"),
        "--workers",
        "1",
        token=TOKENS["admin"],
    ) as server:
        server.wait()
        yield server


def environment(mongo_uri: str, docs: Docs, **changes: str) -> dict[str, str]:
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    return {
        "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": docs.name, "API_TOKENS": tokens, **changes,
    }  # fmt: skip


class Visitors:
    """The contexts of a test, and what their consoles said."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def __call__(self, server: Serve | str, scope: str | None = "admin", **options: Any) -> Page:
        """A page of a new visitor. `server`: or its address."""
        url = server if isinstance(server, str) else server.url
        context = self._browser.new_context(base_url=url, **options)
        context.set_default_timeout(PATIENCE)
        self.contexts.append(context)
        if context_runs_javascript(options):
            context.add_init_script(WATCH)
        if scope is not None:
            log_in(context, url, scope)
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")


def context_runs_javascript(options: dict[str, Any]) -> bool:
    return bool(options.get("java_script_enabled", True))


def log_in(context: BrowserContext, url: str, scope: str) -> None:
    """By the form, as a browser sends it."""
    origin = {"Origin": url}
    answer = context.request.post(
        f"{url}/dashboard/login", form={"token": TOKENS[scope]}, headers=origin, max_redirects=0
    )
    assert answer.status == 303, answer.text()


@pytest.fixture
def quiet() -> list[str]:
    """Parts of what the console may say in this test."""
    return []


@pytest.fixture
def visit(browser: Browser, quiet: list[str]) -> Iterator[Visitors]:
    """Makes visitors. Afterwards fails on what their consoles said."""
    visitors = Visitors(browser)
    yield visitors
    for context in visitors.contexts:
        context.close()
    said = [each for each in visitors.complaints if not any(part in each for part in quiet)]
    assert not said, said


@pytest.fixture
def page(visit: Visitors, served: Serve) -> Page:
    """A visitor with the scope admin."""
    return visit(served)


def screenshot(page: Page, name: str) -> None:
    """Stores a picture in the folder that SCREENSHOTS names, if it does."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
