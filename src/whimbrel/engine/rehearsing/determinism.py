"""Judges whether a transform is deterministic and idempotent, as far as a rehearsal can tell; and what guards documents where it is not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.marks import CHANGED
from whimbrel.domain.runs.run import Run
from whimbrel.engine.rehearsing.rehearsal import RehearsedDocument

# What an update may use that differs each time, or in each run.
VARYING = frozenset(
    {"$$NOW", "$$CLUSTER_TIME", "$rand", "$sampleRate", "$currentDate", "$$claimed_at", "$$run", "$$batch"}
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`holds`: None where nothing could be compared. `why`: a sentence with the figures."""

    holds: bool | None
    why: str


def deterministic(definition: Definition, rehearsed: Sequence[RehearsedDocument]) -> Verdict:
    """Judges whether the same document has the same outcome twice."""
    compared = [document for document in rehearsed if document.same is not None]
    differing = sum(not document.same for document in compared)
    moving = sorted(set(_varying_parts(definition.update))) if definition.update is not None else []
    uses = f"The update uses {', '.join(moving)}" if moving else ""
    if moving:
        evidence = (
            f": {differing} of {len(compared)} documents came out otherwise the second time"
            if differing
            else ""
        )
        return Verdict(holds=False, why=f"{uses}{evidence}.")
    if not compared:
        return Verdict(None, "No document could be compared.")
    if differing:
        return Verdict(
            holds=False, why=f"{differing} of {len(compared)} documents came out otherwise the second time."
        )
    return Verdict(holds=True, why=f"All {len(compared)} documents came out the same twice.")


def idempotent(run: Run, rehearsed: Sequence[RehearsedDocument]) -> Verdict:
    """Judges whether the transform leaves its own output as it is."""
    compared = [document for document in rehearsed if document.stable is not None]
    if not compared:
        return Verdict(None, "No document could be compared.")
    differing = sum(not document.stable for document in compared)
    if not differing:
        changed = sum(document.outcome == CHANGED for document in compared)
        return Verdict(
            holds=True, why=f"Applied to its own output it changes nothing ({changed} changed documents)."
        )
    path = run.marking.path
    guard = (
        f"The mark {path!r} keeps it from being applied twice"
        if path
        else "Only its filter keeps it from being applied twice: see whether that becomes false"
    )
    return Verdict(
        holds=False, why=f"Of {len(compared)} documents {differing} become something else, or fail, when it is applied to its own output. {guard}."
    )  # fmt: skip


def _varying_parts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == "$literal":
                continue
            if name in VARYING:
                yield name
            yield from _varying_parts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _varying_parts(inner)
    elif isinstance(value, str) and value.partition(".")[0] in VARYING:
        yield value.partition(".")[0]
