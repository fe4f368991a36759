"""Commands of the program within the test's process: as fast as what they do, where nothing about processes is tested."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from whimbrel.cli import main


@dataclass(frozen=True, slots=True)
class Said:
    """What a command wrote, and its exit code."""

    out: str
    err: str
    code: int


class Commands:
    """`whimbrel ...` in a folder of its own, with the environment that is given here, and no other of Whimbrel's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def set(self, **environment: str) -> None:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)

    def unset(self, name: str) -> None:
        self._monkeypatch.delenv(name, raising=False)

    def __call__(self, *arguments: str, code: int | None = 0) -> Said:
        self._monkeypatch.setattr(sys, "argv", ["whimbrel", *arguments])
        self._capsys.readouterr()
        ended = main.run_command_line()
        captured = self._capsys.readouterr()
        said = Said(captured.out, captured.err, ended)
        assert code in (None, ended), said
        assert "Traceback" not in said.err, said.err
        return said


@pytest.fixture
def commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, mongo_uri: str
) -> Iterator[Commands]:
    """Against the MongoDB of this test run. Nobody is there to answer a question."""
    monkeypatch.chdir(tmp_path)
    found = Commands(monkeypatch, capsys)
    for name in ("MONGODB_DB_NAME", "WHIMBREL_MIGRATIONS", "RABBITMQ_URL"):
        found.unset(name)
    found.set(
        MONGODB_URI=mongo_uri, RETRY_DELAY="20", WHIMBREL_LEASE="3", WHIMBREL_GRACE="1", WHIMBREL_STATEMENT="0.9",
        WHIMBREL_SWEEP="0.2", WHIMBREL_IDLE_POLL="0.05", LOG_LEVEL="error", COLUMNS="200",
    )  # fmt: skip
    yield found
    structlog.reset_defaults()  # it logs to what capsys has taken away by now
