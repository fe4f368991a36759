"""Every table is whole at any width: each word of each cell stands unbroken in what is written, and nothing is left out.

Words are counted in the text that a real console writes: wrapped or in blocks, a cell's words are all there.
"""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import RenderableType

from whimbrel import Migration
from whimbrel.cli.commands.schedule import _schedules_table, _ticks_table
from whimbrel.cli.output.demo_checks import Check, checks_table
from whimbrel.cli.output.dry_run import failed_table
from whimbrel.cli.output.fact_tables import Facts, FactTable
from whimbrel.cli.output.failure_tables import failures_table, groups_table
from whimbrel.cli.output.migration_tables import broken_table, migrations_table
from whimbrel.cli.output.preflight_findings import findings_lines
from whimbrel.cli.output.progress_bar import Moment, progress
from whimbrel.cli.output.run_tables import batches_table, report_table, run_table, runs_table
from whimbrel.cli.output.screen import Screen
from whimbrel.cli.output.terminal_text import Paragraph, Text, VisibleConsole
from whimbrel.cli.output.worker_tables import workers_table
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.causes import Cause
from whimbrel.domain.failures.failure import FailedDocument, Failure, FailureGroup, FailureKind, FailureState
from whimbrel.domain.migrations.catalog import Broken
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.forecast import Forecast
from whimbrel.domain.runs.preflight_findings import Finding
from whimbrel.domain.runs.run import Counts, Run, Scope
from whimbrel.domain.runs.schedules import Plan, Schedule, Tick
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.domain.runs.verification import Proof
from whimbrel.domain.runs.workers import InHand, Refusal, Worker
from whimbrel.engine.operating.run_view import RunView
from whimbrel.engine.rehearsing.dry_run import FailedGroup

WIDTHS = (80, 100, 140)
NOW = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
NAME = "a-migration-with-a-rather-long-name-of-its-own-v2"
HOST = "build-agent-0123.cluster-eu-west-1.internal.example.com"
MESSAGE = (
    "The value 'https://files.example.com/customers/2026/12/31/invoices/0123456789.pdf?signature=abcdef0123456789abcdef0123456789' "
    "is none of those that the newer version of the application reads, in none of its fields."
)
FRAME = '  File "/srv/app/releases/2026-12-31/migrations/customers/invoices/split_names.py", line 1234, in split_name\n    raise ValueError(message)'


def key(value: object) -> Key:
    return Key.of_document(bson.encode({"_id": value}))


def written(part: RenderableType, width: int) -> str:
    file = io.StringIO()
    VisibleConsole(file=file, force_terminal=True, color_system=None, width=width).print(part, crop=False)
    return file.getvalue()


def words(*texts: object) -> Counter[str]:
    return Counter(word for text in texts for word in str(text).split())


def whole(text: str, width: int, *cells: object) -> None:
    missing = words(*cells) - words(text)
    assert not missing, f"{missing} of:\n{text}"
    assert "…" not in text
    for line in text.splitlines():
        assert cell_len(line.rstrip()) <= width or len(line.split()) == 1, line


def run(**changes: object) -> Run:
    given = {
        "id": "20261231-abc234", "migration": NAME, "version": 1, "database": "customers", "collection": "invoices_of_all_customers",
        "filter": bson.encode({"address": {"$exists": True}, "url": {"$regex": "x" * 90}}), "mark": "marker", "status_field": "status",
        "declarative": False, "claim": False, "adopt": "ours", "scope": Scope(), "legs": ("pending", "failed", "sweep"), "batch_size": 1000,
        "max_attempts": 3, "retry_delay": 1.0, "timeout": 30.0, "code_hash": "0", "created_at": NOW, "updated_at": NOW, "started_at": NOW,
        "status": RunStatus.COMPLETED_WITH_FAILURES, "message": MESSAGE,
    }  # fmt: skip
    return Run(**(given | changes))  # type: ignore[arg-type]


def seen(**changes: object) -> RunView:
    return RunView(
        run=run(**changes), counts=Counts(changed=123_456_789), failures={"failed": 25_126, "conflict": 12}, total_batches=123_456,
        completed_batches=123_455, cancelled_batches=0, failed_batches=1, seconds=98_765.4, speed=Forecast(12_345.6, 61.0),
    )  # fmt: skip


def runs() -> tuple[FactTable, list[object]]:
    table = runs_table(
        [
            seen(),
            seen(id="20261231-xyz789", status=RunStatus.RUNNING, of="20261231-abc234", kind="verification"),
        ]
    )
    return table, [
        "20261231-abc234", "20261231-xyz789", NAME, NAME, "verify", "completed_with_failures", "running, waits", "pending", "100%", "25,138",
        "2026-12-31",
    ]  # fmt: skip


def one_run() -> tuple[Facts, list[object]]:
    return run_table(seen()), [
        MESSAGE,
        f'"{"x" * 90}"}}}}',
        "customers.invoices_of_all_customers",
        "123,456,789",
        NAME,
        "25,126",
    ]


def batches() -> tuple[FactTable, list[object]]:
    worker = f"{HOST}:12345:0a1b2c3d"
    rows = [
        Batch(
            run="r", seq=12_345, leg=0, phase="pending", lo=key(1), cuts=(key(2),), estimated=1000,
            status=BatchStatus.DONE, claims=3, worker=worker,
        )
        for _ in range(2)
    ]  # fmt: skip
    return batches_table(rows), [worker, worker, "12345", "pending", "done", "1,000", "chunks", "claims"]


def groups() -> tuple[FactTable, list[object]]:
    rows = [
        FailureGroup(
            group=f"{number:08x}", signature="", kind="code", type="ValueError", place="split_names.py:1234 in split_name",
            message=MESSAGE, open=12_345, dead=number, resolved=0, example=key("customer@example.com" * 3),
        )
        for number in range(2)
    ]  # fmt: skip
    return groups_table(rows), [
        MESSAGE,
        MESSAGE,
        "12,345",
        "00000001",
        "split_names.py:1234",
        "customer@example.com" * 3,
    ]


def failures() -> tuple[FactTable, list[object]]:
    row = Failure(
        run="r", key=key(bson.ObjectId("0123456789abcdef01234567")), batch="r.1", phase="pending", kind=FailureKind.CODE, type="ValueError",
        message=MESSAGE, code=None, group="1f3a5c7e", traceback=f"  File x\n{FRAME}\n", attempt=3, state=FailureState.OPEN,
        outcome="failed", resolution=None, due_at=NOW, first_at=NOW, last_at=NOW,
    )  # fmt: skip
    return failures_table([row, row]), [
        MESSAGE,
        MESSAGE,
        FRAME,
        FRAME,
        "0123456789abcdef01234567",
        "open",
        "1f3a5c7e",
    ]


def workers() -> tuple[FactTable, list[object]]:
    refusal = Refusal("20261231-abc234", "0123456789abcdef0123", f"invoices.py and {MESSAGE}")
    row = Worker(
        name="n", host=HOST, pid=4_123_456, version="1", slots=16, only=None, code={}, done=1_234_567,
        in_hand=tuple(InHand(f"20261231-abc234.{number}:0a1b2c3d", NOW) for number in range(3)), refuses=(refusal,),
        started_at=NOW, seen_at=NOW,
    )  # fmt: skip
    return workers_table([row], NOW + timedelta(seconds=75)), [
        HOST, "4123456", "1,234,567", MESSAGE, "0123456789abcdef0123,", "20261231-abc234.2:0a1b2c3d for 1:15",
    ]  # fmt: skip


def schedules() -> tuple[FactTable, list[object]]:
    plan = Plan(migration=NAME, cron="*/15 0-6,22,23 1,15 * MON-FRI", zone="America/Argentina/ComodRivadavia")
    row = Schedule(
        name="every-quarter-of-an-hour",
        plan=plan,
        revision=1,
        next_at=NOW,
        last_at=NOW,
        last_run="20261231-abc234",
    )
    return _schedules_table([row], on=True), [
        "every-quarter-of-an-hour", NAME, plan.cron, plan.zone, "2026-12-31 23:59:59Z", "2026-12-31 23:59:59Z", "20261231-abc234", "enabled",
    ]  # fmt: skip


def ticks() -> tuple[FactTable, list[object]]:
    tick = Tick(due_at=NOW, first=NOW, outcome="failed", run="20261231-abc234", reason=MESSAGE)
    return _ticks_table([("every-quarter-of-an-hour", tick)]), [
        MESSAGE,
        "every-quarter-of-an-hour",
        "failed",
        "20261231-abc234",
    ]


def move(document: dict[str, object]) -> dict[str, object]:
    """Moves what the old version of the application has put into one field to where the newer one looks for it."""
    return document


def migrations() -> tuple[FactTable, list[object]]:
    it = Migration(name=NAME, collection="invoices_of_all_customers", database="customers", transform=move)
    return migrations_table({NAME: it.definition}), [
        NAME, "customers.invoices_of_all_customers", "function", "marker", move.__doc__,
    ]  # fmt: skip


def broken() -> tuple[FactTable, list[object]]:
    return broken_table([Broken(NAME, "migrations_of_customers.py", MESSAGE), Broken("", "b.py", "No.")]), [
        NAME, "migrations_of_customers.py", MESSAGE, "(the whole file)", "b.py", "No.",
    ]  # fmt: skip


def report() -> tuple[FactTable, list[object]]:
    proofs = [
        Proof("outcomes add up", True, MESSAGE),
        Proof("nothing left", None, "Not looked at.", since=True),
    ]
    return report_table(proofs), [
        "outcomes add up",
        "proved",
        MESSAGE,
        "nothing left",
        "changed since",
        "Not looked at.",
    ]


def checks() -> tuple[FactTable, list[object]]:
    return checks_table([Check(MESSAGE, "123,456,789 of 123,456,789", False)]), [
        MESSAGE,
        "123,456,789 of 123,456,789",
        "FAILED",
    ]


def sample_failures() -> tuple[FactTable, list[object]]:
    trouble = FailedDocument(
        key=key("k" * 100), kind=FailureKind.CODE, type="ValueError", message=MESSAGE, traceback=FRAME
    )
    found = FailedGroup(cause=Cause(FailureKind.CODE, "ValueError", "", "t"), count=12_345, example=trouble)
    return failed_table([found]), [MESSAGE, FRAME, "k" * 100, "12345"]


TABLES: Sequence[Callable[[], tuple[RenderableType, list[object]]]] = (
    runs, one_run, batches, groups, failures, workers, schedules, ticks, migrations, broken, report, checks, sample_failures,
)  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_table_is_whole(table: Callable[[], tuple[RenderableType, list[object]]], width: int) -> None:
    part, cells = table()
    whole(written(part, width), width, *cells)


cells = st.lists(
    st.sampled_from(
        [
            "a",
            "of",
            "it",
            "word",
            "0123456789abcdef01234567",
            "longer-than-most-of-them",
            "w" * 79,
            "l" * 150,
            "東京都",
        ]
    ),
    max_size=12,
).map(" ".join)


@settings(max_examples=60)
@given(
    st.integers(2, 7).flatmap(
        lambda count: st.lists(st.lists(cells, min_size=count, max_size=count), min_size=1, max_size=4)
    ),
    st.sampled_from([40, *WIDTHS]),
    st.booleans(),
)
def test_whatever_the_cells_hold(rows: list[list[str]], width: int, right: bool) -> None:
    names = [f"n{number}" for number in range(len(rows[0]))]
    table = FactTable(names, "Title of it", right=names[:1] if right else ())
    facts = Facts("Title of it")
    for row in rows:
        table.add(*row)
        facts.add(row[0].partition(" ")[0][:20], row[1])
    every = [cell for row in rows for cell in row]
    whole(written(table, width), width, *every, "Title of it")
    whole(written(facts, width), width, *(row[1] for row in rows))


def test_sentences_and_findings_are_whole() -> None:
    found = Finding(level="warning", check="unique-index", reason=MESSAGE, remedy=f"{MESSAGE} Build it.")
    for width in WIDTHS:
        reason, remedy = findings_lines([found])
        assert isinstance(reason, Text)
        whole(written(Paragraph(reason), width), width, "warning: unique-index.", MESSAGE)
        whole(written(remedy, width), width, MESSAGE, "Build it.")
        whole(written(Paragraph(Text(MESSAGE), indent=2, hanging=4), width), width, MESSAGE)


@pytest.mark.parametrize("width", [*WIDTHS, 40])
def test_the_progress_of_a_run_is_whole(width: int) -> None:
    screen = Screen()
    file = io.StringIO()
    screen.live, screen.err = (
        True,
        VisibleConsole(file=file, force_terminal=True, color_system=None, width=width),
    )
    at = Moment(
        title=NAME, done=123_456_789, total=987_654_321, percent=12.5, rate=12_345, eta=12_345, status="running (pending)",
        facts="25,126 failed, 12 conflict", note=f"Waits for the broker: {'reason ' * 20}",
    )  # fmt: skip
    with progress(screen) as shown:
        shown.show(at)
    text = file.getvalue()
    assert words(at.line, at.note, "12.5%") <= words(text)
    assert NAME in "".join(text.split())
    assert "…" not in text
