"""Runs that follow, from the command line, by real processes."""

import json
import signal
from pathlib import Path

from tests.integration.cli.test_cli import (
    Cli,
    Docs,
    cli,
    environment,
    everything_changed_once,
    started,
    the_run,
    things,
    until,
)
from tests.integration.in_process_commands import Commands, commands

__all__ = ["cli", "commands", "environment", "things"]


def follows(database: Docs, count: int) -> bool:
    run = the_run(database)
    at = run.get("legs", [""])[run.get("leg", 0)]
    return at == "follow" and everything_changed_once(database, count)


def test_a_run_follows_is_interrupted_goes_on_and_is_told_to_end(
    cli: Cli, database: Docs, things: int, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["PROCESSING_DELAY"] = "0"
    with started(environment, tmp_path, "run", "counted", "--follow", "--workers", "1", "--yes") as process:
        until(lambda: follows(database, things))
        database["things"].insert_one({"_id": "meanwhile"})
        until(lambda: follows(database, things + 1))
        run = str(the_run(database)["_id"])
        shown = cli("status", run).stdout
        assert "follows since" in shown
        assert "1 documents since the sweep" in shown
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert f"Paused; nothing is lost. Go on with: whimbrel resume {run}" in error
    database["things"].insert_one({"_id": "paused"})
    with started(environment, tmp_path, "resume", run, "--workers", "1", "--json") as process:
        until(lambda: follows(database, things + 2))
        assert "It follows no more" in cli("set", run, "--no-follow").stdout
        out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    ended = json.loads(out)
    assert (ended["status"], ended["changed"], ended["follow"]["documents"]) == ("completed", things + 2, 2)


def test_options_that_exclude_one_another(commands: Commands) -> None:
    told = commands("run", "some-model", "--follow", "--limit", "5", code=64)
    assert "--limit takes the first documents only, --follow all that come" in told.err
    assert "or --no-follow" in commands("set", "x", code=64).err
