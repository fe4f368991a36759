"""The pictures of the dashboard in docs/screenshots: each page, on real runs of a real server. `make screenshots`.

It needs Chromium: `apt-get install chromium`, or name its program in CHROMIUM.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from pymongo import MongoClient

from whimbrel.mongo.embedded import embedded

FOLDER = Path(__file__).parent / "screenshots"
TOKEN = "a-token-of-the-pictures-only"  # noqa: S105  the server ends with the script
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 380, "height": 780}
HIGHEST, SCREEN = 2600, 960  # pixels: of a longer page its beginning
QUALITY = 75  # of WebP, of 100
MOST = 1_500_000  # bytes of all pictures
PATIENCE = 240.0  # seconds
BUSY = 60.0  # seconds for which the busy run has worked, so that its charts say something
SETTLED = 2500  # milliseconds in which a page gets its numbers
PEOPLE, ORDERS, PRODUCTS = 400_000, 40_000, 60_000
MIGRATIONS = """\
import time
from whimbrel import SKIP, Migration, migration


@migration(collection="people", filter={"name": {"$exists": True}})
def split_name(person):
    \"\"\"Names have a first and a last part.\"\"\"
    time.sleep(0.0005)  # as a lookup would take
    first, _, last = person["name"].partition(" ")
    if not last:
        return SKIP
    return {"$set": {"first": first, "last": last}, "$unset": {"name": ""}}


@migration(collection="orders")
def order_totals(order):
    \"\"\"Orders know their total.\"\"\"
    return {"$set": {"total": sum(order["prices"]), "currency": order["currency"].upper()}}


cents = Migration(
    name="price-in-cents", collection="products", undo=True,
    update=[{"$set": {"cents": {"$toInt": {"$round": [{"$multiply": ["$price", 100]}]}}}}],
)
"""


@dataclass(frozen=True)
class Picture:
    """`name`: of its file. `dark`, `phone`: how else than light, on a desktop. `highest`: of a longer page its beginning."""

    name: str
    path: str
    dark: bool = False
    phone: bool = False
    login: bool = True
    highest: int = SCREEN


def main() -> int:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "shop.py").write_text(MIGRATIONS, encoding="utf-8")
        with embedded(folder / ".whimbrel") as uri:
            seed(uri)
            with served(folder, uri) as server, sync_playwright() as driver:
                pictures = prepare(server)
                flags = ["--no-sandbox"] if os.geteuid() == 0 else []
                browser = driver.chromium.launch(executable_path=chromium(), args=[*flags, "--disable-gpu"])
                session = logged_in(browser, server)
                for picture in pictures:
                    take(browser, server, picture, session if picture.login else None)
                browser.close()
    total = sum(file.stat().st_size for file in FOLDER.iterdir())
    sys.stderr.write(f"{FOLDER}: {len(pictures)} pictures, {total:,} bytes\n")
    return 0 if total <= MOST else 1


def seed(uri: str) -> None:
    names = ["Ada Lovelace", "Alan Turing", "Plato", "Grace Hopper", "Edsger Dijkstra"]
    with MongoClient[dict[str, Any]](uri) as client:
        shop = client["shop"]
        # Some names are no text, some orders have prices of text, or no currency: these fail.
        shop["people"].insert_many(
            {"_id": n, "name": n if n % 4000 == 3999 else names[n % 5]}  # noqa: PLR2004
            for n in range(PEOPLE)
        )
        shop["orders"].insert_many(
            {"_id": f"order-{n:06}", "prices": [n % 90, "free" if n % 31 == 0 else 3], "currency": None if n % 47 == 0 else "eur"}
            for n in range(ORDERS)
        )  # fmt: skip
        shop["products"].insert_many({"_id": n, "price": n / 8} for n in range(PRODUCTS))


class Server:
    """`whimbrel serve`, asked over HTTP, and the command line beside it."""

    def __init__(self, url: str, environment: Mapping[str, str], folder: Path) -> None:
        self.url, self._environment, self._folder = url, environment, folder

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}{path}", method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from error

    def start(self, migration: str, **options: Any) -> str:
        return str(self.ask("POST", "/migrate", {"migration": migration, **options})["migrationId"])

    def until(self, run: str, condition: Callable[[Mapping[str, Any]], bool]) -> None:
        wait_for(lambda: condition(self.ask("GET", f"/migrate/status/{run}")["migration"]), f"run {run}")

    def command(self, *words: str) -> None:
        subprocess.run(  # noqa: S603
            [*PROGRAM, *words], env=dict(self._environment), cwd=self._folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )  # fmt: skip


PROGRAM = (sys.executable, "-m", "whimbrel.cli.main")


@contextmanager
def served(folder: Path, uri: str) -> Iterator[Server]:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "MONGODB_URI": uri, "MONGODB_DB_NAME": "shop", "WHIMBREL_MIGRATIONS": "shop.py", "API_TOKENS": f"anna=admin:{TOKEN}",
        "HOST": "127.0.0.1", "PORT": str(port), "RETRY_DELAY": "2000", "RABBITMQ_URL": "",
    }  # fmt: skip
    log = (folder / "serve.log").open("wb")
    command = [*PROGRAM, "serve", "--workers", "2"]
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)  # noqa: S603
    with log, process:
        server = Server(f"http://127.0.0.1:{port}", environment, folder)
        try:
            wait_for(lambda: answers(server), "whimbrel serve")
            yield server
        except BaseException:
            sys.stderr.write((folder / "serve.log").read_text()[-3000:])
            raise
        finally:
            process.terminate()


def answers(server: Server) -> bool:
    try:
        with urllib.request.urlopen(f"{server.url}/health/ready", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)  # noqa: PLR2004
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.3)


def prepare(server: Server) -> list[Picture]:
    """Starts runs: one that is done and verified, one that its failures have paused, one that is at work, one that waits."""

    def ended(run: Mapping[str, Any]) -> bool:
        return run["endTime"] is not None

    # The machine that makes the pictures may be busy with other things.
    server.command("health", "read-canary", "--slow", "1000", "--stop", "3000")
    server.command("health", "majority-write", "--slow", "3000", "--stop", "9000")
    done = server.start("price-in-cents", undo=True)
    server.until(done, ended)
    verification = str(server.ask("POST", f"/migrate/verify/{done}", {})["migrationId"])
    server.until(verification, ended)
    failed = server.start("order-totals", maxFailureRate=0.04)
    server.until(failed, lambda run: run["status"] == "paused" or ended(run))
    cause = server.ask("GET", f"/migrate/failures/{failed}")["groups"][0]["group"]
    server.command("schedule", "set", "nightly-totals", "--migration", "order-totals", "--cron", "30 2 * * *", "--zone", "Europe/Berlin", "--window", "22:00-06:00 Europe/Berlin")  # fmt: skip
    server.command(
        "schedule", "set", "prices", "--migration", "price-in-cents", "--cron", "0 */6 * * Mon-Fri"
    )
    server.command("freeze", "--from", "2d", "--until", "4d", "--note", "peak season")
    busy = server.start("split-name", undo=True)
    server.start("split-name")
    server.until(busy, lambda run: run["seconds"] > BUSY / 3)
    server.ask("PATCH", f"/migrate/settings/{busy}", {"maxDocsPerSecond": 1500})
    server.until(busy, lambda run: run["seconds"] > 2 * BUSY / 3)
    server.ask("POST", f"/migrate/pause/{busy}")
    server.until(busy, lambda run: run["status"] == "paused")
    server.ask("POST", f"/migrate/resume/{busy}")
    server.until(busy, lambda run: run["seconds"] > BUSY)
    run = f"/dashboard/runs/{busy}"
    return [
        Picture("run", run, highest=1380), Picture("run-whole", run, highest=HIGHEST), Picture("run-dark", run, dark=True), Picture("run-phone", run, phone=True),
        Picture("runs", "/"), Picture("runs-phone", "/", phone=True), Picture("run-paused", f"/dashboard/runs/{failed}"),
        Picture("causes", f"/dashboard/runs/{failed}/causes"), Picture("cause", f"/dashboard/runs/{failed}/causes/{cause}"),
        Picture("batch", f"{run}/batches/1"), Picture("report", f"/dashboard/runs/{verification}/report"),
        Picture("start", "/dashboard/start"), Picture("rollback", f"/dashboard/runs/{done}/rollback"), Picture("cleanup", f"/dashboard/runs/{done}/cleanup"),
        Picture("health", "/dashboard/health"), Picture("workers", "/dashboard/workers"), Picture("queues", "/dashboard/queues"),
        Picture("schedules", "/dashboard/schedules"), Picture("audit", "/dashboard/audit"), Picture("login", "/dashboard/login", login=False),
    ]  # fmt: skip


def take(browser: Browser, server: Server, picture: Picture, session: Any) -> None:
    context = browser.new_context(
        viewport=PHONE if picture.phone else DESKTOP, device_scale_factor=1, color_scheme="dark" if picture.dark else "light",
        locale="en-GB", timezone_id="Europe/Berlin", reduced_motion="reduce", storage_state=session,
    )  # type: ignore[arg-type]  # fmt: skip
    page = context.new_page()
    answer = page.goto(f"{server.url}{picture.path}")
    if answer is None or not answer.ok:
        raise RuntimeError(f"{picture.path}: {answer.status if answer else 'no answer'}")
    page.wait_for_timeout(SETTLED)
    write(context, page, FOLDER / f"{picture.name}.webp", picture.highest)
    context.close()


def logged_in(browser: Browser, server: Server) -> Any:
    """Returns the session of somebody who has logged in."""
    context = browser.new_context()
    answer = context.request.post(
        f"{server.url}/dashboard/login",
        form={"token": TOKEN},
        headers={"Origin": server.url},
        max_redirects=0,
    )
    if answer.status != 303:  # noqa: PLR2004
        raise RuntimeError(answer.text())
    return context.storage_state()


def write(context: BrowserContext, page: Page, file: Path, highest: int) -> None:
    """Playwright itself writes no WebP, which is a third of a PNG."""
    size = page.viewport_size or DESKTOP
    height = min(highest, int(page.evaluate("document.documentElement.scrollHeight")))
    clip = {"x": 0, "y": 0, "width": size["width"], "height": max(height, size["height"] // 2), "scale": 1}
    session = context.new_cdp_session(page)
    taken = session.send(
        "Page.captureScreenshot",
        {"format": "webp", "quality": QUALITY, "clip": clip, "captureBeyondViewport": True},
    )
    file.write_bytes(base64.b64decode(taken["data"]))


def chromium() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        raise SystemExit(
            "Chromium is not installed: run `apt-get install chromium` as root on Debian, else name its program in CHROMIUM."
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
