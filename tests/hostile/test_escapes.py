"""Documents, functions, MongoDB's own messages and names of files that would act on a terminal: in every command they are text."""

import json
import os
import pty
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, Said, commands
from tests.servers import preloaded

__all__ = ["commands"]

CLEAR, LINK, C1, BIDI = "\x1b[2J", "\x1b]8;;http://evil\x1b\\here\x07", "\x9b31m", "\u202egnp.exe\u2066"
HOSTILE = f"{CLEAR}{LINK}{C1}{BIDI} a\rb\x08c\x7f\u200bd host:1234:x [bold]e[/] \x00f"
ESCAPED = r"\x1b[2J\x1b]8;;http://evil\x1b\here\x07\x9b31m\u202egnp.exe\u2066"
CODES = "host:1234:x [bold]e[/]"
MIGRATIONS = f"""
from whimbrel import Migration, migration

HOSTILE = {HOSTILE!r}


@migration(collection="things", filter={{"n": {{"$exists": True}}}}, batch_size=5)
def twice(document):
    "Summary with \\x1b[2J \\u202e in it."
    print("printed", HOSTILE, "mongodb://john@corp.com:S3cret@host/")
    if document["n"] == 3:
        raise ValueError(f"raised {{document['text']}} mongodb://john@corp.com:S3cret@host/ \\udc80")
    return {{"$set": {{"m": document["text"]}}, "$unset": {{"n": ""}}}}


parse = Migration(name="parse", collection="things", update=[{{"$set": {{"number": {{"$toInt": "$text"}}}}}}])
"""
# What our own progress bar does: up a line, erase it, hide and show the cursor, begin of the line; and colours.
OURS = ("\x1b[1A", "\x1b[2K", "\x1b[?25l", "\x1b[?25h", "\r")
Docs = Database[dict[str, Any]]


def clean(text: str) -> None:
    """By Unicode's own categories."""
    acting = {
        each
        for each in text
        if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and each not in "\n\t"
    }
    assert not acting, text
    assert "S3cret" not in text


@pytest.fixture
def hostile(database: Docs, tmp_path: Path) -> Path:
    database["things"].insert_many(
        [{"_id": f"{number} {HOSTILE}", "n": number, "text": HOSTILE} for number in range(6)]
    )
    (tmp_path / "hostile.py").write_text(MIGRATIONS)
    return tmp_path


def test_no_command_carries_out_what_others_say(commands: Commands, database: Docs, hostile: Path) -> None:
    commands.set(
        MONGODB_DB_NAME=database.name,
        WHIMBREL_MIGRATIONS="hostile.py",
        MAX_RETRIES="0",
        COLUMNS="80",
        LOG_LEVEL="info",
    )

    def told(*words: str, code: int = 0) -> Said:
        said = commands(*words, code=code)
        clean(said.out + said.err)
        return said

    shown = told("plan", "twice", "--documents", "10", code=2)
    assert ESCAPED in shown.out
    ran = told("run", "twice", "--workers", "1", code=2)
    assert ESCAPED in ran.out
    assert CODES in " ".join(ran.out.split())
    refused = told("run", "parse", "--workers", "1", "--json", code=2)
    parsed = json.loads(refused.out)["migrationId"]
    for words in (["failures", parsed], ["failures", parsed, "--documents"], ["status", parsed]):
        said = told(*words)
        assert ESCAPED in said.out, "in MongoDB's words"
        assert CODES in " ".join(said.out.split())
    assert ESCAPED in told("failures", parsed, "--documents").out.partition("state")[0], "the _id"
    rows = json.loads(told("failures", parsed, "--documents", "--json").out)
    assert {each["_id"] for each in rows} == {f"{number} {HOSTILE}" for number in range(6)}
    assert r"\x1b[2J \u202e" in " ".join(told("migrations").out.split())
    for words in (["status"], ["schedule", "status"], ["workers"], ["verify", parsed, "--sample", "0"]):
        told(*words)
    for words in (
        ["run", HOSTILE.replace("\0", "")],
        ["status", HOSTILE],
        ["migrations", "--migrations", f"no{HOSTILE}\udc80.py"],
    ):
        said = commands(*words, code=None)
        assert said.code in (65, 66)
        clean(said.out + said.err)
        assert said.err.splitlines()[-1].startswith("error: ")
        assert r"\x1b[2J" in said.err
    for row in database["whimbrel_failures"].find():
        assert "S3cret" not in repr(row), "stored"


def test_a_run_on_a_terminal(database: Docs, mongo_uri: str, hostile: Path) -> None:
    here, there = pty.openpty()
    environment = {
        **os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name, "WHIMBREL_MIGRATIONS": str(hostile / "hostile.py"),
        "WHIMBREL_IDLE_POLL": "0.05", "MAX_RETRIES": "0", "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "80", "LOG_FORMAT": "console",
    }  # fmt: skip
    command = [sys.executable, "-m", "whimbrel.cli.main", "run", "twice", "--workers", "1", "--yes"]
    written = b""
    with preloaded.Popen(
        command, env=environment, cwd=hostile, stdin=there, stdout=there, stderr=there
    ) as process:
        os.close(there)
        try:
            while piece := os.read(here, 4096):
                written += piece
        except OSError:  # the other end is closed: the command has ended
            pass
        finally:
            os.close(here)
        assert process.wait(60) == 2
    text = written.decode()
    for each in OURS:
        text = text.replace(each, "")
    for style in range(10):
        text = text.replace(f"\x1b[{style}m", "").replace(f"\x1b[1;{style}m", "")
    clean(text)
    assert f"printed {ESCAPED}" in " ".join(text.split())
    assert "raised" in text
