"""Starts runs over exactly the documents that somebody names.

The ids are in the ledger before the run can begin, as its batches of the first phase. The run's row is
there first, `paused`: a coordinator leaves it alone, a person sees it and can cancel it. Then come the
batches, inserted in order, and last an empty batch that says that planning has ended. Only then is the
run queued. A crash in between leaves a paused run; if that is resumed, planning misses the last
batch and pauses it again, with the reason. So a part of the ids is never taken for all of them. The other
order, batches first, would leave rows of no run, whose purpose nobody could see.

There is no sweep: documents that are not named are not the run's business.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from bson import ObjectId
from bson.decimal128 import Decimal128

from whimbrel.domain.bson.raw_bson import DOCUMENT, STRING, Key
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.requests import requested
from whimbrel.domain.runs.run import Run, Scope, eligible, legs_of
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.operating.start import Defaults, add_run, draft_run
from whimbrel.errors import StateForbids, WhimbrelError
from whimbrel.ports import Documents, Store

LARGEST = 1000  # ids in a batch
BATCHES = 1000  # of a run: as many as are announced at once
BYTES = 4 * 1024 * 1024  # of the ids of a batch: a row of the ledger holds 16 MB
PAGE = 1000  # ids in a query
NUMBERS = (0x01, 0x10, 0x12, 0x13)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenIds:
    """A run that is not in the ledger yet, and which documents the given ids name."""

    run: Run
    keys: tuple[Key, ...]  # as they are stored, a thousand of those given after the other
    unknown: tuple[Key, ...]  # no documents have these ids
    eligible: int  # how many of `keys` are not done yet, and match the migration's filter

    @property
    def batches(self) -> int:
        return sum(batch.ids is not None for batch in _batches(self.run, self.keys))


def choose_ids(
    store: Store, definition: Definition, ids: Sequence[Key], *, defaults: Defaults, batch_size: int | None
) -> ChosenIds:
    """Looks up ids. Nothing is written. Raises what `draft_run` raises."""
    run = draft_run(store, definition, defaults=defaults, batch_size=batch_size)
    documents = store.session().documents(run)
    chosen: dict[Key, None] = {}
    unknown: list[Key] = []
    wanted = list(dict.fromkeys(ids))
    for start in range(0, len(wanted), PAGE):
        page = wanted[start : start + PAGE]
        stored, missing = _look_up(documents, page)
        object_ids = _as_object_ids(documents, missing)
        chosen.update(dict.fromkeys([*stored, *object_ids.values()]))
        unknown += [key for key in missing if key not in object_ids]
    keys = tuple(chosen)
    scope = Scope("ids", len(keys))
    run = replace(
        run, scope=scope, legs=legs_of(mark=run.mark, scope=scope, first=None), request=requested(ids=wanted)
    )
    query = eligible(run, run.phase)
    count = sum(documents.count(keys[start : start + PAGE], query) for start in range(0, len(keys), PAGE))
    return ChosenIds(run=replace(run, estimated=count), keys=keys, unknown=tuple(unknown), eligible=count)


def _look_up(documents: Documents, ids: Sequence[Key]) -> tuple[list[Key], list[Key]]:
    """Returns the stored keys of these ids, and the ids that nothing is stored under.

    MongoDB treats numbers of different types as equal, also inside an id that is a document.
    """
    stored = documents.present(ids)
    exact, numbers = set(stored), {_number(key): key for key in stored if key.kind in NUMBERS}
    stored_keys, missing, nested = [], [], []
    for key in ids:
        stored_key = key if key in exact else numbers.get(_number(key)) if key.kind in NUMBERS else None
        if stored_key is not None:
            stored_keys.append(stored_key)
        elif key.kind == DOCUMENT:
            nested.append(key)
        else:
            missing.append(key)
    if not nested or not documents.present(nested):
        return stored_keys, missing + nested
    for key in nested:
        matches = documents.present([key])
        stored_keys += matches
        missing += [] if matches else [key]
    return stored_keys, missing


def _as_object_ids(documents: Documents, texts: Sequence[Key]) -> dict[Key, Key]:
    """Returns the ObjectIds meant by texts of 24 hexadecimal digits which are not themselves the id of a document."""
    object_ids = {
        text: Key.of(ObjectId(text.value))
        for text in texts
        if text.kind == STRING and ObjectId.is_valid(text.value)
    }
    present = set(documents.present(list(object_ids.values()))) if object_ids else set()
    return {text: key for text, key in object_ids.items() if key in present}


def _number(key: Key) -> Any:
    value = key.value
    number = value.to_decimal() if isinstance(value, Decimal128) else value
    return number if number == number else "nan"  # noqa: PLR0124  only NaN differs from itself


def start_by_ids(store: Store, definition: Definition, chosen: ChosenIds, *, who: str) -> Run:
    """Stores the ids, then queues the run. Raises StateForbids where somebody cancelled it meanwhile."""
    ledger = store.ledger
    message = "Its ids are being stored."
    run = add_run(store, definition, replace(chosen.run, status=RunStatus.PAUSED, message=message), who)
    try:
        batches = list(_batches(run, chosen.keys))
        ledger.runs.note_planned(run.id, batches[ledger.batches.add(batches) - 1].seq)
        queued = ledger.runs.move(run.id, RunStatus.QUEUED, who=who, fields={"message": ""})
    except WhimbrelError:
        with contextlib.suppress(WhimbrelError):
            ledger.runs.move(run.id, RunStatus.CANCELLING, who=who, why="its ids could not be stored")
        raise
    now = ledger.runs.get(run.id)
    if now is None or (not queued and now.status in (RunStatus.CANCELLING, RunStatus.CANCELLED)):
        ledger.batches.withdraw(run.id, BATCHES)
        raise StateForbids(f"Run {run.id} was cancelled while its ids were being stored.")
    return now


def _batches(run: Run, keys: Sequence[Key]) -> Iterator[Batch]:
    """Yields the ids in their order, and at the end the batch that says that these are all."""
    size = max(min(run.batch_size, LARGEST), ceil(len(keys) / BATCHES))
    seq, start = 0, 0
    while start < len(keys):
        end, filled = start, 0
        while (
            end < len(keys) and end - start < size and (end == start or filled + len(keys[end].raw) <= BYTES)
        ):
            filled += len(keys[end].raw)
            end += 1
        seq += 1
        ids = tuple(keys[start:end])
        yield Batch(run=run.id, seq=seq, leg=0, phase=run.legs[0], ids=ids, estimated=len(ids))
        start = end
    yield Batch(run=run.id, seq=seq + 1, leg=0, phase=run.legs[0], last=True, status=BatchStatus.DONE)
