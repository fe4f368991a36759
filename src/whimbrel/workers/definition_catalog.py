"""Asks a child for the definitions of migrations (`python -m whimbrel.workers.definitions`).

Whatever a migration's module does when it is imported affects only that child.
"""

import base64
import binascii
import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bson.errors import InvalidBSON

from whimbrel.domain.bson.raw_bson import decoded
from whimbrel.domain.bson.uuids import untag_uuids
from whimbrel.domain.migrations.catalog import Broken, Catalog, choose
from whimbrel.domain.migrations.code import CodeFiles
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.sequence import Dependency
from whimbrel.errors import DefinitionInvalid
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.settings import read_settings
from whimbrel.workers.definitions import BEGINS
from whimbrel.workers.process_start import StartedProcess, start

ENDING = 1.0  # seconds that a process may take to end after its answer
POLL_SECONDS = 0.2
STDERR = 65_536  # bytes kept of the end of what loading prints


def describe(source: str | None, left_out: Sequence[str] = ()) -> Catalog[Definition]:
    """Returns the definitions in files, folders and modules, loaded by a child. Raises DefinitionInvalid.

    If the child hangs or ends at one of several files, that file is left out, and another child loads the rest. `left_out`: files for
    which that is already known.
    """
    lost = [Broken("", file, f"{file} could not be loaded when this process began.") for file in left_out]
    while True:
        answer, begun, why = _ask_child(
            source, [broken_file.source for broken_file in lost], read_settings().whimbrel_loading
        )
        if answer is None and begun in (None, source):
            raise DefinitionInvalid(f"{source} {why}")
        if answer is None:
            lost.append(Broken("", str(begun), f"{begun} {why}"))
            continue
        if "error" in answer:
            raise DefinitionInvalid(answer["error"])
        broken = [Broken(*fields) for fields in answer["broken"]]
        return Catalog(
            {name: _definition(row) for name, row in answer["definitions"].items()},
            (*lost, *broken),
            tuple(answer["empty"]),
            answer["sources"],
        )


def _ask_child(
    source: str | None, without: Sequence[str], seconds: float
) -> tuple[Mapping[str, Any] | None, str | None, str]:
    """Returns what the child answers; else None, the file that it was loading, and why there is no answer.

    Other processes that hold its streams open are not waited for.
    """
    answers, answering = os.pipe()
    arguments = [str(answering), json.dumps([source, without])]
    with tempfile.TemporaryFile() as printed, Path(os.devnull).open("rb") as nothing:
        streams = nothing.fileno(), printed.fileno(), printed.fileno()
        process = start("whimbrel.workers.definitions", arguments, streams=streams, keep=(answering,))
        os.close(answering)
        begun: list[str] = []
        answer_lines: list[str] = []

        def read() -> None:
            with os.fdopen(answers, encoding="utf-8", errors="replace") as stream:
                for line in stream:
                    if line.startswith(BEGINS):
                        begun[:] = [json.loads(line.removeprefix(BEGINS))]
                    else:
                        answer_lines.append(line)
                        return

        reader = threading.Thread(target=read, name="catalog", daemon=True)
        reader.start()
        too_late = _wait_for_answer(process, reader, seconds)
        reader.join(ENDING)
        if too_late:
            why = (
                f"did not finish loading within {seconds:g} seconds. It should only define migrations; where its imports "
                "do take longer, raise WHIMBREL_LOADING."
            )
            return None, begun[0] if begun else None, why
        try:
            return decoded(base64.b64decode("".join(answer_lines).strip(), validate=True)), None, ""
        except (binascii.Error, ValueError, InvalidBSON):
            size = printed.seek(0, os.SEEK_END)
            printed.seek(max(0, size - STDERR))
            last = printed.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
            why = f"cannot be loaded: {last or 'the process that loaded it ended without a word'}"
            return None, begun[0] if begun else None, why


def _wait_for_answer(process: StartedProcess, reader: threading.Thread, seconds: float) -> bool:
    """Waits for the answer, and ends the process. Returns whether the answer came too late."""
    end = time.monotonic() + seconds
    try:
        while reader.is_alive() and process.poll() is None and time.monotonic() < end:
            reader.join(POLL_SECONDS)
        too_late = reader.is_alive() and process.poll() is None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0 if too_late else ENDING)
    finally:  # also where Ctrl-C ends the wait
        process.kill()  # its threads and exit handlers may wait forever
        process.wait()
    return too_late


def _definition(row: Mapping[str, Any]) -> Definition:
    reads = row["reads"]
    row = untag_uuids(row)
    return Definition(
        **{
            **row,
            "reads": None if reads is None else tuple(reads),
            "code": CodeFiles(**{**row["code"], "naive": tuple(row["code"]["naive"])}),
            "depends_on": tuple(row["depends_on"]),
            "dependencies": tuple(Dependency(**dependency) for dependency in row["dependencies"]),
        }
    )


def evaluate(source: str | None, name: str, left_out: Sequence[str] = ()) -> Definition:
    """Returns a migration as its code evaluates it now: used whenever a run starts, for its filter may hold the time.

    `left_out`: see `describe`. Raises DefinitionInvalid, MigrationUnknown.
    """
    if name == SOME_MODEL.name:  # Whimbrel's own, always the same
        return SOME_MODEL.definition
    return choose(describe(source, left_out), name)
