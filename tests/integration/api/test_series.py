"""A run's course, the strip of its key space and its slots over HTTP: bounded however many batches it has, and refused where it must be."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from starlette.testclient import TestClient

from tests.conftest import SHORT
from tests.integration.api.conftest import serving
from tests.integration.in_process_system import start
from tests.waiting import until as wait
from whimbrel import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.mongo.store import MongoStore, connected
from whimbrel.settings import Settings

Docs = Database[dict[str, Any]]
BATCHES, DOCUMENTS, PLANNED = 100_000, 1000, 200_000_000
WORKING, PENDING, CANCELLED = range(99_001, 99_011), range(99_011, 99_700), range(99_700, 99_720)
FOLDED = 99_000
NAME = "test_large_run"


def failing(seq: int) -> bool:
    return seq % 2 == 0 if seq <= 40_000 else seq % 997 == 0


def state_of(seq: int) -> str:
    if seq in WORKING:
        return "running"
    return "queued" if seq in PENDING else "cancelled" if seq in CANCELLED else "done"


def row(run: Run, seq: int) -> dict[str, Any]:
    state, chunks = state_of(seq), 1
    rest: dict[str, Any] = {"failing": {"n": 1, "open": 0, "conflict": 0, "marks": 1}} if failing(seq) else {}
    if (
        state == "running"
    ):  # 400 documents are changed, 3 have failed, and the second of four chunks is not over
        progress = {"progress": [[1, 250, 0, 0, 3], [2, 150, 0, 0, 0]], "at": {"_id": seq * DOCUMENTS - 600}}
        rest, chunks = rest | progress | {"worker": "A", "claimedAt": datetime.now(UTC)}, 4
    first, each = (seq - 1) * DOCUMENTS, DOCUMENTS // chunks
    return {
        "_id": f"{run.id}.{seq}", "run": run.id, "seq": seq, "leg": 0, "phase": "pending", "lo": {"_id": first} if first else None,
        "cuts": [{"_id": first + part * each} for part in range(1, chunks + 1)], "last": False, "estimated": DOCUMENTS, "status": state,
        "claims": 1, "takeovers": 0, "solo": False, "counts": {"changed": DOCUMENTS if state == "done" else 0}, "through": seq * DOCUMENTS, **rest,
    }  # fmt: skip


@dataclass
class Large:
    """A run at work with 100,000 batches, and a server."""

    api: TestClient
    run: Run
    store: MongoStore
    database: Docs

    def get(self, path: str, **headers: str) -> Any:
        return self.api.get(f"/migrate/{path}", headers=headers)

    def strip(self, cells: int, **parameters: int) -> Any:
        wanted = "".join(f"&{name}={value}" for name, value in parameters.items())
        answer = self.get(f"keyspace/{self.run.id}?cells={cells}{wanted}")
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def large(mongo_uri: str, client: MongoClient[dict[str, Any]]) -> Iterator[Large]:
    database = client[NAME]
    client.drop_database(NAME)
    it = Migration(name="it", collection="things", update={"$set": {"a": 1}})
    with connected(mongo_uri, NAME, SHORT) as store:
        database["things"].insert_one({"_id": 0})
        run = start(store, it, batch_size=DOCUMENTS)
        store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test", fields={"estimated": PLANNED})
        database.drop_collection("whimbrel_batches")  # its indexes are built faster from all rows together
        for first in range(1, BATCHES + 1, 20_000):
            database["whimbrel_batches"].insert_many(row(run, seq) for seq in range(first, first + 20_000))
        blocks = [
            {"_id": {"r": run.id, "b": block}, "run": run.id, "block": block, "marked": True, "marks": 1}
            for block in range(101)
        ]
        database["whimbrel_blocks"].insert_many(blocks)
        settings = Settings(
            mongodb_uri=mongo_uri, mongodb_db_name=NAME, rabbitmq_url=None, api_rate="10000/minute"
        )
        added_up = {
            "foldedThrough": FOLDED,
            "counts.changed": FOLDED * DOCUMENTS,
            "byLeg": {"0": {"changed": FOLDED * DOCUMENTS, "batches": FOLDED}},
        }
        database["whimbrel_runs"].update_one({"_id": run.id}, {"$set": added_up})
        with connected(mongo_uri, NAME, SHORT) as other:
            other.prepare()
        store.ledger.failures.add_up(run.id)
        # No coordinator attends to it: it stays as it is, and what is asked is asked by the API.
        assert store.ledger.leases.lead(f"coordinator:{run.id}", "test", 3600)
        with serving(settings, workers=0) as api:
            yield Large(api, control.find_run(store.ledger, run.id), store, database)
    client.drop_database(NAME)


def spelt_out(cells: str) -> str:
    """The letters of run lengths."""
    found, letter, number = "", "", ""
    for character in f"{cells}.":
        if character.isdigit():
            number += character
            continue
        found += letter * int(number or 0)
        letter, number = character, ""
    return found


LETTERS = {"running": "w", "queued": "p", "cancelled": "x", "done": "s"}


def expected_cell(seqs: range) -> str:
    """What a cell of these batches shows, batch by batch."""
    if seqs.start > BATCHES:
        return "n"
    existing = [seq for seq in seqs if seq <= BATCHES]
    letters = {LETTERS[state_of(seq)] for seq in existing} | ({"f"} if any(map(failing, existing)) else set())
    if "w" in letters:
        return "v" if "f" in letters else "w"
    return next(letter for letter in "fpxs" if letter in letters)


@pytest.mark.parametrize("cells", [10_000, 977, 60])
def test_every_batch_of_a_large_run_is_in_its_cell(large: Large, cells: int) -> None:
    found = large.strip(cells)
    total = PLANNED // DOCUMENTS
    bounds = [cell * total // cells for cell in range(cells + 1)]
    expected = "".join(expected_cell(range(bounds[cell] + 1, bounds[cell + 1] + 1)) for cell in range(cells))
    assert found["count"] == cells
    assert spelt_out(found["cells"]) == expected
    assert found["cells"] == "".join(f"{letter}{len(list(same))}" for letter, same in groupby(expected))
    states = Counter(state_of(seq) for seq in range(1, BATCHES + 1))
    assert found["batches"] == {
        "settled": states["done"], "working": 10, "pending": len(PENDING), "cancelled": 20, "notPlanned": total - BATCHES,
        "withFailures": sum(failing(seq) for seq in range(1, BATCHES + 1)),
    }  # fmt: skip
    assert (found["leg"], found["phase"], found["cell"]) == (0, "pending", None)


def test_a_strip_costs_what_is_open_however_many_batches_are_settled(large: Large) -> None:
    large.database.command("profile", 2)
    large.strip(10_000, cell=4999)
    large.database.command("profile", 0)
    rows = large.database["system.profile"].find({"ns": {"$regex": "whimbrel_(runs|batches|blocks)$"}})
    asked = [each for each in rows if large.run.id in str(each["command"])]
    open_ = len(WORKING) + len(PENDING) + len(CANCELLED)
    blocks = BATCHES // 1000 + 1
    assert sum(each.get("docsExamined", 0) for each in asked) <= len(WORKING) + blocks + 10
    assert sum(each.get("keysExamined", 0) for each in asked) <= open_ + 2 * blocks + 30
    assert {each["planSummary"] for each in asked if "COLLSCAN" in str(each.get("planSummary"))} == set()
    assert len(asked) <= 10


def test_a_cell_names_its_batches_and_keys(large: Large) -> None:
    found = large.strip(10_000, cell=4950)["cell"]  # of 20 batches each
    assert found == {
        "cell": 4950, "state": "v", "parts": 1, "part": 0, "batches": 20, "firstBatch": f"{large.run.id}.99001", "lastBatch": f"{large.run.id}.99020",
        "documents": 20_000, "after": 99_000_000, "first": None, "through": 99_020_000,
        "states": {"settled": 0, "working": 10, "pending": 10, "cancelled": 0}, "withFailures": sum(failing(seq) for seq in range(99_001, 99_021)),
    } | {"state": "v" if any(map(failing, range(99_001, 99_021))) else "w"}  # fmt: skip
    not_planned = large.strip(10_000, cell=9999)["cell"]
    assert (
        not_planned["state"],
        not_planned["batches"],
        not_planned["firstBatch"],
        not_planned["states"],
    ) == ("n", 20, None, None)
    assert large.strip(60, cell=0)["cell"]["after"] is None


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("keyspace/nope", 404, "There is no run 'nope'"),
        ("keyspace/{run}?cells=0", 422, "query.cells"),
        ("keyspace/{run}?cells=10001", 422, "query.cells"),
        ("keyspace/{run}?cells=1_0", 422, "in digits"),
        ("keyspace/{run}?cell=-1", 422, "query.cell"),
        ("keyspace/{run}?cell=10000", 422, "query.cell"),
        ("keyspace/{run}?cells=10&cell=10", 404, "There is no cell 10: there are 0 to 9."),
        ("keyspace/{run}?leg=4", 404, "its legs are 0 to 3"),
        ("keyspace/{run}?cels=10", 422, "cells"),
        ("series/nope", 404, "There is no run 'nope'"),
        ("series/{run}?points=0", 422, "query.points"),
        ("series/{run}?points=721", 422, "query.points"),
        ("series/{run}?from=yesterday", 422, "query.from"),
        ("series/{run}?from=2026-02-02T00:00:00Z&to=2026-02-01T00:00:00Z", 422, "must be later"),
        ("series/{run}?from=2026-02-02&to=2026-02-02", 422, "must be later"),
        ("sparklines", 422, "query.runs"),
        ("sparklines?runs=", 422, "query.runs"),
        ("sparklines?runs=a,,b", 422, "query.runs"),
        ("sparklines?runs={many}", 422, "query.runs"),
        ("slots/nope", 404, "There is no run 'nope'"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(large: Large, path: str, status: int, says: str) -> None:
    many = ",".join(f"r{number}" for number in range(201))
    answer = large.get(path.replace("{run}", large.run.id).replace("{many}", many))
    assert (answer.status_code, says in answer.json()["error"]) == (status, True), answer.text


def test_a_leg_that_has_not_begun_has_no_cells(large: Large) -> None:
    found = large.strip(100, leg=2)
    assert (found["count"], found["cells"], found["phase"]) == (0, "", "sweep")
    answer = large.get(f"keyspace/{large.run.id}?leg=2&cell=0")
    assert (answer.status_code, answer.json()["code"]) == (404, "cell_unknown")
    assert "nothing is planned yet" in answer.json()["error"]


def test_the_same_answer_is_not_sent_twice(large: Large) -> None:
    for path in (f"keyspace/{large.run.id}?cells=500", f"slots/{large.run.id}", f"status/{large.run.id}"):
        first = large.get(path)
        tag = first.headers["ETag"]
        again = large.get(path, **{"If-None-Match": f'"other", W/{tag}'})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        changed = large.get(path, **{"If-None-Match": '"other"'})
        assert (changed.status_code, changed.headers["ETag"]) == (200, tag)
    other = large.get(f"keyspace/{large.run.id}?cells=501")
    assert other.headers["ETag"] != large.get(f"keyspace/{large.run.id}?cells=500").headers["ETag"]


def test_a_course_of_a_run_is_answered_between_two_times(large: Large) -> None:
    now = datetime.now(UTC)
    found = large.get(f"series/{large.run.id}").json()
    assert found["from"] == large.run.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    (point,) = found["points"]  # nobody has written any
    assert point["documents"] == sum(
        DOCUMENTS for seq in range(1, BATCHES + 1) if state_of(seq) == "done"
    ) + 400 * 10 + sum(map(failing, range(1, BATCHES + 1)))
    assert found["olderLeftOut"] is False
    later = (now + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    assert large.get(f"series/{large.run.id}?from={later}").json()["points"] == []
    sparks = large.get(f"sparklines?runs={large.run.id},nope").json()
    assert (sparks["seconds"], sparks["unknown"], list(sparks["rates"])) == (15, ["nope"], [large.run.id])
    assert len(sparks["rates"][large.run.id]) == 60


def test_slots_tell_what_they_have_done_and_what_they_know(large: Large) -> None:
    ledger, run = large.store.ledger, large.run

    def beat(changes: int, *, stops: bool = False) -> Any:
        held = [
            {"batch": f"{run.id}.{seq}", "since": datetime.now(UTC), "changes": changes, "stops": stops}
            for seq in WORKING[:3]
        ]
        facts = {
            "host": "h",
            "pid": 1,
            "version": "0",
            "slots": 4,
            "only": None,
            "code": [],
            "done": 0,
            "inHand": held,
            "refuses": [],
        }
        ledger.leases.beat("A", **facts)
        return large.get(f"slots/{run.id}").json()

    assert beat(0)["settings"] == {"changes": 0, "changedAt": None, "seen": 10, "of": 10}
    answer = large.api.patch(f"/migrate/settings/{run.id}", json={"maxDocsPerSecond": 5000})
    assert answer.status_code == 200
    large.api.patch(f"/migrate/settings/{run.id}", json={"nice": 1})
    before = beat(1)
    assert (before["settings"]["changes"], before["settings"]["seen"], before["settings"]["of"]) == (2, 0, 10)
    assert before["settings"]["changedAt"] is not None
    wait(lambda: beat(2)["settings"]["seen"] == 3)
    seen = beat(2)
    assert (seen["settings"]["seen"], seen["working"], seen["more"]) == (3, 10, False)
    assert seen["slots"][0] == {
        "batchId": f"{run.id}.99001", "phase": "pending", "worker": "A", "since": seen["slots"][0]["since"], "totalItems": 1000, "processedItems": 403,
        "changed": 400, "unchanged": 0, "skipped": 0, "failed": 3, "totalChunks": 4, "completedChunks": 1, "retry": False, "takeovers": 0,
        "settingsSeen": True, "stopSeen": False,
    }  # fmt: skip
    assert seen["stop"] == {"asked": None, "seen": 0, "left": 0}
    large.api.post(f"/migrate/pause/{run.id}")
    stopping = beat(2, stops=True)
    assert (stopping["status"], stopping["stop"]) == ("pausing", {"asked": "pause", "seen": 3, "left": 10})
