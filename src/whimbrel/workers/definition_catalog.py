"""Asking a child for the definitions of migrations (`python -m whimbrel.workers.definitions`).

What a migration's module does when it is imported happens to that child alone.
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
from whimbrel.domain.bson.uuids import unnamed
from whimbrel.domain.migrations.catalog import Broken, Catalog, choose
from whimbrel.domain.migrations.code import CodeFiles
from whimbrel.domain.migrations.migration import Definition
from whimbrel.errors import DefinitionInvalid
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.settings import read_settings
from whimbrel.workers.definitions import BEGINS
from whimbrel.workers.process_start import StartedProcess, start

ENDING = 1.0  # seconds that a process which has answered may take to end
LOOK = 0.2
STDERR = 65_536  # bytes at the end of what loading prints that are kept


def describe(source: str | None, left_out: Sequence[str] = ()) -> Catalog[Definition]:
    """The definitions in files, folders and modules, loaded by a child. Raises DefinitionInvalid.

    A file of several at which the child hangs or ends is left out, and another child loads the rest. `left_out`: files for which that
    is known.
    """
    lost = [Broken("", each, f"{each} could not be loaded when this process began.") for each in left_out]
    while True:
        told, begun, why = _asked(source, [each.source for each in lost], read_settings().whimbrel_loading)
        if told is None and begun in (None, source):
            raise DefinitionInvalid(f"{source} {why}")
        if told is None:
            lost.append(Broken("", str(begun), f"{begun} {why}"))
            continue
        if "error" in told:
            raise DefinitionInvalid(told["error"])
        broken = [Broken(*each) for each in told["broken"]]
        return Catalog(
            {name: _definition(row) for name, row in told["definitions"].items()},
            (*lost, *broken),
            tuple(told["empty"]),
        )


def _asked(
    source: str | None, without: Sequence[str], seconds: float
) -> tuple[Mapping[str, Any] | None, str | None, str]:
    """What the child answers; else None, the file that it has begun with, and why there is no answer.

    Whatever else holds its streams open is not waited for.
    """
    answers, answering = os.pipe()
    asked = [str(answering), json.dumps([source, without])]
    with tempfile.TemporaryFile() as printed, Path(os.devnull).open("rb") as nothing:
        streams = nothing.fileno(), printed.fileno(), printed.fileno()
        process = start("whimbrel.workers.definitions", asked, streams=streams, keep=(answering,))
        os.close(answering)
        begun: list[str] = []
        found: list[str] = []

        def read() -> None:
            with os.fdopen(answers, encoding="utf-8", errors="replace") as stream:
                for line in stream:
                    if line.startswith(BEGINS):
                        begun[:] = [json.loads(line.removeprefix(BEGINS))]
                    else:
                        found.append(line)
                        return

        reader = threading.Thread(target=read, name="catalog", daemon=True)
        reader.start()
        late = _awaited(process, reader, seconds)
        reader.join(ENDING)
        if late:
            why = (
                f"did not finish loading within {seconds:g} seconds. It should only define migrations; where its imports "
                "do take longer, raise WHIMBREL_LOADING."
            )
            return None, begun[0] if begun else None, why
        try:
            return decoded(base64.b64decode("".join(found).strip(), validate=True)), None, ""
        except (binascii.Error, ValueError, InvalidBSON):
            size = printed.seek(0, os.SEEK_END)
            printed.seek(max(0, size - STDERR))
            last = printed.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
            why = f"cannot be loaded: {last or 'the process that loaded it ended without a word'}"
            return None, begun[0] if begun else None, why


def _awaited(process: StartedProcess, reader: threading.Thread, seconds: float) -> bool:
    """Wait for the answer, and end the process; says whether it came too late."""
    end = time.monotonic() + seconds
    try:
        while reader.is_alive() and process.poll() is None and time.monotonic() < end:
            reader.join(LOOK)
        late = reader.is_alive() and process.poll() is None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0 if late else ENDING)
    finally:  # also where Ctrl-C ends the wait
        process.kill()  # its threads and exit handlers may wait for ever
        process.wait()
    return late


def _definition(row: Mapping[str, Any]) -> Definition:
    reads = row["reads"]
    row = unnamed(row)
    return Definition(
        **{
            **row,
            "reads": None if reads is None else tuple(reads),
            "code": CodeFiles(**{**row["code"], "naive": tuple(row["code"]["naive"])}),
        }
    )


def evaluate(source: str | None, name: str, left_out: Sequence[str] = ()) -> Definition:
    """A migration as its code evaluates it now: whatever starts a run asks, for its filter may hold the time.

    `left_out`: see `describe`. Raises DefinitionInvalid, MigrationUnknown.
    """
    if name == SOME_MODEL.name:  # Whimbrel's own, the same at any time
        return SOME_MODEL.definition
    return choose(describe(source, left_out), name)
