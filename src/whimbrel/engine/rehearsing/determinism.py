"""Whether a transform is deterministic and idempotent, as far as a rehearsal can tell; and what guards documents where it is not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whimbrel.domain.migrations.marks import CHANGED
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.run import Run
from whimbrel.engine.rehearsing.rehearsal import RehearsedDocument

# What an update may use that is another thing each time, or in each run.
MOVING = frozenset(
    {"$$NOW", "$$CLUSTER_TIME", "$rand", "$sampleRate", "$currentDate", "$$claimed_at", "$$run", "$$batch"}
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`holds`: None where nothing could be compared. `why`: a sentence with the figures."""

    holds: bool | None
    why: str


def deterministic(definition: Definition, found: Sequence[RehearsedDocument]) -> Verdict:
    """The same document twice: is the outcome the same?"""
    compared = [each for each in found if each.same is not None]
    other = sum(not each.same for each in compared)
    moving = sorted(set(_moving(definition.update))) if definition.update is not None else []
    uses = f"The update uses {', '.join(moving)}" if moving else ""
    if moving:
        seen = f": {other} of {len(compared)} documents came out otherwise the second time" if other else ""
        return Verdict(holds=False, why=f"{uses}{seen}.")
    if not compared:
        return Verdict(None, "No document could be compared.")
    if other:
        return Verdict(
            holds=False, why=f"{other} of {len(compared)} documents came out otherwise the second time."
        )
    return Verdict(holds=True, why=f"All {len(compared)} documents came out the same twice.")


def idempotent(run: Run, found: Sequence[RehearsedDocument]) -> Verdict:
    """The transform applied to its own output: does it leave that as it is?"""
    compared = [each for each in found if each.stable is not None]
    if not compared:
        return Verdict(None, "No document could be compared.")
    other = sum(not each.stable for each in compared)
    if not other:
        changed = sum(each.outcome == CHANGED for each in compared)
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
        holds=False, why=f"Of {len(compared)} documents {other} become something else, or fail, when it is applied to its own output. {guard}."
    )  # fmt: skip


def _moving(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == "$literal":
                continue
            if name in MOVING:
                yield name
            yield from _moving(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _moving(inner)
    elif isinstance(value, str) and value.partition(".")[0] in MOVING:
        yield value.partition(".")[0]
