"""What has changed from one look at the cluster to the next, as those are told who watch. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whimbrel.domain.runs.states import ENDED
from whimbrel.engine.operating.overview import Line, Overview

AT_ONCE = 100  # runs of which something is told in one look; the others are told in the next ones

Told = tuple[str, Mapping[str, Any]]
"""The name of an event, and what it tells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What those know who were told everything so far. `turns`: at which look each run was told last."""

    lines: Mapping[str, Line] = field(default_factory=dict)
    more: bool = False
    health: Mapping[str, Any] = field(default_factory=dict)
    freeze: Mapping[str, Any] = field(default_factory=dict)
    turns: Mapping[str, int] = field(default_factory=dict)
    turn: int = 0

    @property
    def snapshot(self) -> Mapping[str, Any]:
        """All of it at once."""
        return {
            "runs": list(self.lines.values()),
            "more": self.more,
            "health": self.health,
            "freeze": self.freeze,
        }


def first_known(overview: Overview) -> Known:
    """Returns what those know who are told a first look."""
    lines = {run_id: line for run_id, line in overview.lines.items() if not _over(line)}
    return Known(lines=lines, more=overview.more, health=overview.health, freeze=overview.freeze)


def changes(known: Known, overview: Overview) -> tuple[Known, Sequence[Told]]:
    """Returns what is known after a look, and what is told for that."""
    told: list[Told] = []
    if overview.health != known.health:
        told.append(("health", overview.health))
    if overview.freeze != known.freeze:
        told.append(("freeze", overview.freeze))
    changed = [line for run_id, line in overview.lines.items() if line != known.lines.get(run_id)]
    changed.sort(key=lambda line: _urgency(line, known))
    lines, turns, turn = dict(known.lines), dict(known.turns), known.turn + 1
    for line in changed[:AT_ONCE]:
        run_id = line["migrationId"]
        told += _about(line, known.lines.get(run_id))
        lines[run_id], turns[run_id] = line, turn
    for run_id in (*overview.gone, *overview.dropped):
        if lines.pop(run_id, None) is not None:
            told.append(("gone", {"migrationId": run_id, "exists": run_id in overview.dropped}))
    if overview.missed:
        told.append(("reload", {"reason": "More runs were added at once than are told one by one."}))
    lines = {run_id: line for run_id, line in lines.items() if not _over(line)}
    turns = {run_id: turns[run_id] for run_id in lines if run_id in turns}
    return (
        Known(lines=lines, more=overview.more, health=overview.health, freeze=overview.freeze, turns=turns, turn=turn),
        told,
    )  # fmt: skip


def _over(line: Line) -> bool:
    return line["status"] in ENDED


def _urgency(line: Line, known: Known) -> tuple[bool, bool, int]:
    """Orders lines: those that are over first, as no other look tells them, then those whose state has changed, then those that were told longest ago."""
    before = known.lines.get(line["migrationId"])
    same = before is not None and before["status"] == line["status"]
    return not _over(line), same, known.turns.get(line["migrationId"], 0)


def _about(line: Line, before: Line | None) -> Iterator[Told]:
    yield "run", line
    if before is None or before["status"] != line["status"]:
        yield (
            "state",
            {
                "migrationId": line["migrationId"], "migration": line["migration"], "kind": line["kind"],
                "before": None if before is None else before["status"], "after": line["status"], "reason": line["reason"],
            },
        )  # fmt: skip
    failing = line["openFailures"] + line["deadFailures"]
    new = failing - (0 if before is None else before["openFailures"] + before["deadFailures"])
    if new > 0:
        yield (
            "failures",
            {
                "migrationId": line["migrationId"], "migration": line["migration"], "new": new,
                "openFailures": line["openFailures"], "deadFailures": line["deadFailures"],
            },
        )  # fmt: skip
