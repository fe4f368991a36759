"""What all pages have in common: the login, the head, what is lost and comes back."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import faults_of, too_wide
from tests.browser.conftest import TOKENS, Docs, Visit, environment, screenshot
from tests.servers.proxy import Balancer
from tests.servers.serve import Serve


def fill_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def test_who_has_no_session_logs_in_and_goes_on_to_what_was_wanted(
    visit: Visit, served: Serve, quiet: list[str]
) -> None:
    quiet.append("401")
    page = visit(served, None)
    page.goto("/?status=failed")
    expect(page).to_have_title("Log in · Whimbrel")
    expect(page.get_by_label("Token")).to_be_focused()
    screenshot(page, "login")
    assert not faults_of(page)
    fill_in(page, "w" * 20)
    expect(page.get_by_role("alert")).to_contain_text("none of the tokens")
    assert not faults_of(page)
    page.get_by_label("Token").press_sequentially(TOKENS["read"])
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{served.url}/?status=failed")
    expect(page.locator(".who")).to_contain_text("read-1")
    page.get_by_role("button", name="Log out").press("Enter")
    expect(page).to_have_title("Log in · Whimbrel")
    page.goto("/")
    expect(page).to_have_title("Log in · Whimbrel")


def test_pages_are_read_without_javascript(visit: Visit, served: Serve) -> None:
    page = visit(served, None, java_script_enabled=False)
    page.goto("/")
    fill_in(page, TOKENS["operate"])
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    expect(page.locator("#age")).to_contain_text("UTC")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()


class Elsewhere(BaseHTTPRequestHandler):
    """A page of another site with a link to ours."""

    def do_GET(self) -> None:
        body = f'<a href="{self.server.target}">a run</a>'.encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere(served: Serve) -> Iterator[str]:
    """Its address: another host by its name, so that cookies know it is another site."""
    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    server.target = f"{served.url}/?status=failed"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_link_from_another_site_finds_the_session(visit: Visit, served: Serve, elsewhere: str) -> None:
    """Browsers do not send a strict cookie with it."""
    page = visit(served)
    page.goto(elsewhere)
    page.get_by_role("link", name="a run").click()
    expect(page).to_have_url(f"{served.url}/?status=failed")
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_a_session_that_ends_while_a_page_is_open_is_told(
    visit: Visit, served: Serve, docs: Docs, quiet: list[str]
) -> None:
    quiet.append("401")
    page = visit(served)
    page.goto("/")
    expect(page.locator("#age")).to_contain_text("Live")
    docs["whimbrel_sessions"].delete_many({})
    expect(page.get_by_role("alert")).to_contain_text("session has ended")
    expect(page.locator("body")).to_have_attribute("data-connection", "lost")
    page.get_by_role("link", name="Log in again").click()
    fill_in(page, TOKENS["admin"])
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_what_is_not_there_says_so(visit: Visit, served: Serve, quiet: list[str]) -> None:
    quiet.append("40")  # the browser itself reports 404
    page = visit(served)
    page.goto("/dashboard/nothing")
    expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()
    expect(page.locator(".who")).to_contain_text("admin-3")
    screenshot(page, "error-404")
    assert not faults_of(page)


def test_keyboards_reach_everything(page: Page, served: Serve) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.goto("/")
    wanted = page.locator("a[href]:visible, button:visible, summary:visible, input:visible").count()
    reached = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
    assert len(reached) >= wanted - 1  # the link that skips is seen only while it has the focus


@pytest.mark.parametrize("width", [380, 3840])
def test_nothing_is_cut_off_at_any_width(visit: Visit, served: Serve, width: int) -> None:
    for scope in (None, "admin"):
        page = visit(served, scope, viewport={"width": width, "height": 900})
        page.goto("/")
        assert not too_wide(page)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.fixture(scope="module")
def pair(
    mongo_uri: str, docs: Docs, served: Serve, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Serve, Balancer]]:
    """A second instance, without workers, that tests may stop; and a front that gives each connection to the next of both."""
    with ExitStack() as stack:
        second = stack.enter_context(
            Serve(environment(mongo_uri, docs), tmp_path_factory.mktemp("second"), "--no-workers")
        )
        second.wait()
        yield second, stack.enter_context(Balancer(served.port, second.port))


def test_one_session_is_for_all_instances(
    visit: Visit, pair: tuple[Serve, Balancer], quiet: list[str]
) -> None:
    quiet.append("ERR_")  # of the connections that end
    address = f"http://127.0.0.1:{pair[1].port}"
    page = visit(address, None)
    page.goto("/")
    fill_in(page, TOKENS["operate"])
    for _ in range(4):
        page.goto("about:blank")  # a page that loses its connection may be loading itself
        pair[1].churn()  # ends the connections, so that the next instance is asked
        page.goto("/")
        expect(page.locator(".who")).to_contain_text("operate-2")
    expect(page.locator("#age")).to_contain_text("Live")


def test_what_goes_away_is_missed_at_once_and_found_again(
    visit: Visit, pair: tuple[Serve, Balancer], mongo_uri: str, quiet: list[str]
) -> None:
    """First the server, then MongoDB: pages that were open, and one that is opened meanwhile, go on by themselves."""
    quiet += ["ERR_", "503"]
    second = pair[0]
    page = visit(second)
    page.goto("/")
    expect(page.locator("#age")).to_contain_text("Live")
    second.process.kill()
    expect(page.locator("body")).to_have_attribute("data-connection", "lost")
    expect(page.get_by_role("alert")).to_contain_text("connection is lost")
    expect(page.locator("#age")).to_contain_text(re.compile("Data from .* ago"))
    screenshot(page, "runs-lost")
    assert not faults_of(page)
    second._environment |= {"MONGODB_URI": "mongodb://127.0.0.1:1", "WHIMBREL_CONNECT_SECONDS": "1"}
    second.start()
    expect(page.get_by_role("alert")).to_contain_text("MongoDB")
    late = page.context.new_page()
    late.goto("/")
    expect(late.get_by_role("heading", name="Not ready")).to_be_visible()
    expect(late.get_by_role("alert")).to_contain_text("MongoDB")
    screenshot(late, "error-503")
    assert not faults_of(late)
    second.process.kill()
    second._environment |= {"MONGODB_URI": mongo_uri, "WHIMBREL_CONNECT_SECONDS": "10"}
    second.start()
    expect(late.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    expect(page.locator("body")).to_have_attribute("data-connection", "live")
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#age")).to_contain_text("Live")
