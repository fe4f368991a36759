"""Selects the documents that a run would evaluate: how many, how that is known, and a sample of them."""

from dataclasses import dataclass
from typing import Literal

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.run import Phase, Run, eligible, first_phases, query_of_first_phases
from whimbrel.engine.operating.start import preview
from whimbrel.errors import TooSlow
from whimbrel.ports import Choice, Rehearsal, Store

SAMPLE_BYTES = 48 * 1024 * 1024  # of all documents of the sample
LOOKING = 2.0  # seconds that counting the selected documents may take
How = Literal["counted", "sampled"]
CHOICES: tuple[Choice, ...] = ("largest", "oldest", "newest", "random")


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """How many documents a run would evaluate, and how that is known. `index`: the one by which MongoDB finds them; None: it looks at all."""

    exact: int | None
    estimated: int
    how: How
    index: str | None


def draw_sample(
    rehearsal: Rehearsal, run: Run, size: int, unchecked: list[str]
) -> tuple[dict[str, int], dict[bytes, Phase]]:
    """Draws eligible documents, each once and with its phase: a quarter each of the largest, the oldest and the newest, the rest at random."""
    queries = {phase: eligible(run, phase) for phase in first_phases(run)}
    query = query_of_first_phases(run)
    drawn: dict[Key, bytes] = {}
    counted: dict[str, int] = {}
    for choice in CHOICES:
        wanted = size - len(drawn) if choice == "random" else size // 4
        try:
            # As many more as may have been drawn already.
            candidates = rehearsal.sample(choice, query, wanted + len(drawn)) if wanted else ()
        except TooSlow:
            unchecked.append(f"the {choice} documents were not found in time, and are not in the sample")
            continue
        new = [document for document in candidates if Key.of_document(document) not in drawn][:wanted]
        while sum(map(len, (*drawn.values(), *new))) > SAMPLE_BYTES:
            new.pop()
        drawn |= {Key.of_document(document): document for document in new}
        counted[choice] = len(new)
    sample = list(drawn.values())
    phases: dict[bytes, Phase] = {}
    for phase, part in queries.items():
        inside = rehearsal.satisfying(part, sample) if len(queries) > 1 else drawn.keys()
        phases |= {document: phase for document in sample if Key.of_document(document) in inside}
    return counted, phases


def select(store: Store, run: Run, rehearsal: Rehearsal) -> Selected:
    expected = preview(store, run, seconds=LOOKING)
    index = rehearsal.index(eligible(run, first_phases(run)[0]))
    how: How = "sampled" if expected.total is None else "counted"
    return Selected(exact=expected.total, estimated=expected.estimated, how=how, index=index)
