"""Which documents a run would evaluate: how many, how that is known, and a sample of them."""

from dataclasses import dataclass
from typing import Literal

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.run import Phase, Run, eligible, first_phases, found_first
from whimbrel.engine.operating.start import preview
from whimbrel.errors import TooSlow
from whimbrel.ports import Choice, Rehearsal, Store

SAMPLE_BYTES = 48 * 1024 * 1024  # of all documents of the sample
LOOKING = 2.0  # seconds that counting them may take
How = Literal["counted", "sampled"]
CHOICES: tuple[Choice, ...] = ("largest", "oldest", "newest", "random")


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """How many documents a run would evaluate, and how that is known. `index`: by which MongoDB finds them; None: it looks at all."""

    exact: int | None
    estimated: int
    how: How
    index: str | None


def draw_sample(
    rehearsal: Rehearsal, run: Run, size: int, unchecked: list[str]
) -> tuple[dict[str, int], dict[bytes, Phase]]:
    """Eligible documents, each once and with its phase: a quarter each of the largest, the oldest and the newest, the rest by chance."""
    queries = {phase: eligible(run, phase) for phase in first_phases(run)}
    query = found_first(run)
    found: dict[Key, bytes] = {}
    counted: dict[str, int] = {}
    for choice in CHOICES:
        wanted = size - len(found) if choice == "random" else size // 4
        try:
            # As many more as may be there already.
            more = rehearsal.sample(choice, query, wanted + len(found)) if wanted else ()
        except TooSlow:
            unchecked.append(f"the {choice} documents were not found in time, and are not in the sample")
            continue
        new = [each for each in more if Key.of_document(each) not in found][:wanted]
        while sum(map(len, (*found.values(), *new))) > SAMPLE_BYTES:
            new.pop()
        found |= {Key.of_document(each): each for each in new}
        counted[choice] = len(new)
    sample = list(found.values())
    phases: dict[bytes, Phase] = {}
    for phase, part in queries.items():
        inside = rehearsal.satisfying(part, sample) if len(queries) > 1 else found.keys()
        phases |= {each: phase for each in sample if Key.of_document(each) in inside}
    return counted, phases


def select(store: Store, run: Run, rehearsal: Rehearsal) -> Selected:
    seen = preview(store, run, seconds=LOOKING)
    index = rehearsal.index(eligible(run, first_phases(run)[0]))
    how: How = "sampled" if seen.total is None else "counted"
    return Selected(exact=seen.total, estimated=seen.estimated, how=how, index=index)
