"""A fault of Whimbrel itself, in a thread that looks: it is told for what it is, and MongoDB is not blamed."""

import threading
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from whimbrel.cli.output import run_log
from whimbrel.cli.output.ledger_observer import LedgerObserver
from whimbrel.cli.output.run_log import RunLogger
from whimbrel.cli.output.screen import Screen
from whimbrel.errors import Systemic, Transient


def breaking(after: int, enough: int) -> tuple[Callable[[], None], threading.Event]:
    """What breaks from its so-manieth call on, and when it was called often enough."""
    calls, reached = 0, threading.Event()

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls >= enough:
            reached.set()
        if calls > after:
            raise ZeroDivisionError("by nothing")

    return call, reached


def test_a_look_that_breaks_is_told_and_logged_once() -> None:
    look, reached = breaking(after=1, enough=4)
    with capture_logs() as logs:
        with LedgerObserver(look, pause=0.001) as seen:
            assert reached.wait(30)
        with pytest.raises(Systemic, match="Whimbrel itself failed: ZeroDivisionError: by nothing"):
            seen.check()
    (row,) = logs
    assert row["log_level"] == "error"
    assert isinstance(row["exc_info"], ZeroDivisionError)


def test_telling_that_breaks_is_logged_once_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "EVERY", 0.001)
    ledger, reached = breaking(after=0, enough=3)
    with capture_logs() as logs, RunLogger(Screen(), ledger):
        assert reached.wait(30)
    assert [row["event"] for row in logs] == ["telling of runs broke"]


def test_what_passes_is_waited_for() -> None:
    left: list[Exception | int] = [1, Transient("away"), 2]

    def look() -> int:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    with LedgerObserver(look, pause=0.001) as seen:
        while seen.latest != 2:
            seen.wait(30)
            seen.check()
