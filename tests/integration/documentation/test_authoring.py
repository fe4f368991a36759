"""docs/authoring.md: its examples, run as they stand there, on the documents that stand under them."""

import gc
import json
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import start, system, until
from whimbrel import Migration
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.run_view import RunView
from whimbrel.mongo.store import MongoStore
from whimbrel.workers.migration_loader import load

PAGE = (Path(__file__).parents[3] / "docs" / "authoring.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\n```text\n(.*?)```", PAGE, re.DOTALL)
LINE = re.compile(r"(?:(?P<name>[\w-]+) )?(?P<before>\{.*?\}) → (?P<after>\{.*\}|stays|skipped|fails)")
OURS = {"_whimbrel", "processedBy", "processingStartedAt"}
OF_OTHERS = {"authors": [{"_id": "ada", "name": "Ada Lovelace", "born": 1815}]}

Docs = Database[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Said:
    """What the page says of one document."""

    before: dict[str, Any]
    after: str

    def left(self) -> dict[str, Any]:
        """The document afterwards."""
        found: dict[str, Any] = json.loads(self.after) if self.after.startswith("{") else self.before
        return found


@dataclass(frozen=True, slots=True)
class Example:
    it: Migration
    said: list[Said]


class Elsewhere(BaseHTTPRequestHandler):
    """What the examples call: a geocoder and a model."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        city = parse_qs(urlsplit(self.path).query)["city"]
        self._answer({"lat": 52.1, "lon": 4.3} if city == ["Den Haag"] else None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer({"vector": [float(len(body["input"])), 0.5]})

    def _answer(self, found: object) -> None:
        body = json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not to the terminal."""


@contextmanager
def elsewhere() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def written(folder: Path, number: int, code: str, database: str) -> list[Migration]:
    """The migrations of an example, in a file of its own; each has its collection for itself."""
    own = re.sub(r'collection="(\w+)"', rf'collection="\1_{number}"', code)
    file = folder / f"authoring_{number}.py"
    file.write_text(re.sub(r'"(shop|blog)"', f'"{database}"', own), encoding="utf-8")
    return [it for it in load(str(file)).values() if it.definition.collection.endswith(f"_{number}")]


def said_of(text: str, name: str) -> list[Said]:
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [
        Said(json.loads(each["before"]), each["after"])
        for each in found
        if each and each["name"] in (None, name)
    ]


def as_shown(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """A document as the page shows it: without what is ours, and with a star for what varies."""
    kept = {name: value for name, value in found.items() if name not in OURS or name in wanted}
    kept.pop("_whimbrel", None)
    return {name: "*" if wanted.get(name) == "*" else value for name, value in kept.items()}


def let_go(migrations: list[Migration]) -> None:
    """Of the clients that the examples keep for as long as their process lives."""
    for it in migrations:
        for name, kept in getattr(it.transform, "__globals__", {}).items():
            if hasattr(kept, "cache_clear"):
                if name == "database":
                    kept().client.close()
                kept.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def compare(example: Example, run_view: RunView, database: Docs, store: MongoStore) -> None:
    it, said = example.it.definition, example.said
    failed = [each.before["_id"] for each in said if each.after == "fails"]
    ended = RunStatus.COMPLETED_WITH_FAILURES if failed else RunStatus.COMPLETED
    assert run_view.run.status is ended, run_view.run
    rows = store.ledger.failures.list(run_view.run.id)
    assert sorted(row.key.value for row in rows) == failed, it.name
    assert run_view.counts.skipped == sum(each.after == "skipped" for each in said), it.name
    for each in said:
        there = database[it.collection].find_one({"_id": each.before["_id"]})
        assert there is not None
        wanted = {name: value for name, value in each.left().items() if name != "_whimbrel"}
        assert as_shown(there, wanted) == wanted, it.name


def test_every_example_of_the_page_does_what_it_says(
    store: MongoStore, database: Docs, mongo_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples: list[Example] = []
    with ExitStack() as stack:
        url = stack.enter_context(elsewhere())
        for name, value in {"GEOCODER_URL": url, "EMBEDDER_URL": url, "BLOG_URI": mongo_uri}.items():
            monkeypatch.setenv(name, value)
        for name, documents in OF_OTHERS.items():
            database[name].insert_many(documents)
        for number, (code, text) in enumerate(EXAMPLES):
            for it in written(tmp_path, number, code, database.name):
                example = Example(it, said_of(text, it.name))
                database[it.definition.collection].insert_many([each.before for each in example.said])
                examples.append(example)
        with system(store, [each.it for each in examples], slots=4):
            ended: dict[str, RunView] = {}
            for later in (False, True):  # what depends on others starts when these have ended
                wave = [each.it for each in examples if bool(each.it.definition.depends_on) is later]
                runs = [start(store, it) for it in wave]
                ended |= {run.migration: until(store, run) for run in runs}
    let_go([each.it for each in examples])
    for example in examples:
        compare(example, ended[example.it.name], database, store)
    assert len(examples) >= len(EXAMPLES) > 10
    assert PAGE.count("```python") == len(EXAMPLES)
    comments = database["comments"].find(projection={"_id": 0}, sort=[("_id", 1)])
    assert list(comments) == [{"post": 1, "text": "first"}, {"post": 1, "text": "second"}]


def test_the_pages_own_test_passes(mongo_uri: str, tmp_path: Path) -> None:
    [code] = [code for code, _ in EXAMPLES if "def test_" in code]
    names: dict[str, Any] = {}
    exec(compile(code, "authoring.md", "exec"), names)  # noqa: S102  the project's own page
    names["test_shout"](mongo_uri)


def test_every_option_has_a_row_and_an_example() -> None:
    code = "\n".join(code for code, _ in EXAMPLES)
    options = {each.name for each in fields(Definition)} - {
        "code_hash",
        "code",
        "summary",
        "uuids",
        "dependencies",
    }
    assert len(options) > 15
    assert not [name for name in options if not re.search(rf"\b{name}=", code)]
    assert not [name for name in options if f"\n| `{name}` |" not in PAGE]
