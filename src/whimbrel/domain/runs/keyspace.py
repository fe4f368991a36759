"""The key space of a phase of a run, folded to a bounded number of cells, however many batches it has. Pure.

A cell is some batches that follow one another, or a part of one batch where there are more cells than batches.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

MOST = 10_000  # cells
SETTLED, RETRIED, FAILING, WORKING, WORKING_FAILING = "s", "r", "f", "w", "v"
PENDING, CANCELLED, UNPLANNED = "p", "x", "n"


@dataclass(frozen=True, slots=True)
class Grid:
    """How batches are divided over cells. Batches are counted from 0 here. `planned` of them exist, the others are an estimate."""

    planned: int
    unplanned: int
    most: int

    @property
    def batches(self) -> int:
        return self.planned + self.unplanned

    @property
    def parts(self) -> int:
        """Cells of one batch; 1 also where a cell has several batches."""
        return max(1, self.most // self.batches) if self.batches else 1

    @property
    def cells(self) -> int:
        return min(self.batches * self.parts, self.most)

    @property
    def folded(self) -> bool:
        """Whether a cell has more than one batch."""
        return self.batches > self.most

    def first_batch(self, cell: int) -> int:
        """Returns the first batch of a cell, or the only one; of a cell behind the last the number of batches."""
        return cell * self.batches // self.most if self.folded else cell // self.parts

    def batches_of(self, cell: int) -> range:
        if self.folded:
            return range(self.first_batch(cell), self.first_batch(cell + 1))
        return range(cell // self.parts, cell // self.parts + 1)

    def cells_of(self, batch: int) -> range:
        if self.folded:
            cell = ((batch + 1) * self.most - 1) // self.batches
            return range(cell, cell + 1)
        return range(batch * self.parts, (batch + 1) * self.parts)


@dataclass(frozen=True, slots=True)
class InHandPart:
    """A batch that is being worked on: how many of about so many documents are known to be done."""

    batch: int
    documents: int
    done: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What is known of the batches of a phase. `pending` and `cancelled`: how many of them the cell that they begin in has.

    `failing`: a character for each planned batch, "1" where it has an unresolved failure; `failed`: the same where it ever had one. Empty: none.
    """

    pending: Mapping[int, int] = field(default_factory=dict)
    cancelled: Mapping[int, int] = field(default_factory=dict)
    in_hand: Iterable[InHandPart] = ()
    failing: str = ""
    failed: str = ""


def painted(grid: Grid, look: Look) -> str:
    """Returns a letter for each cell. A cell tells what is most worth knowing of its batches."""
    letters = [SETTLED if grid.first_batch(cell) < grid.planned else UNPLANNED for cell in range(grid.cells)]
    for cell in _marked(grid, look.failed):
        letters[cell] = RETRIED
    for letter, numbers in ((CANCELLED, look.cancelled), (PENDING, look.pending)):
        for first in numbers:
            letters[first : first + grid.parts] = letter * grid.parts
    for cell in _marked(grid, look.failing):
        letters[cell] = FAILING
    for part in look.in_hand:
        cells = grid.cells_of(part.batch)
        share = min(1.0, part.done / part.documents) if grid.parts > 1 and part.documents else 0.0
        done = cells.start + int(grid.parts * share)
        for cell in cells:
            letters[cell] = _in_hand_letter(letters[cell], done=cell < done)
    return "".join(letters)


def _in_hand_letter(letter: str, *, done: bool) -> str:
    """Returns the letter of a cell of a batch that is being worked on."""
    if letter in (FAILING, WORKING_FAILING):
        return FAILING if done else WORKING_FAILING
    return SETTLED if done else WORKING


def _marked(grid: Grid, batches: str) -> Iterable[int]:
    """Yields the cells of the batches with a "1"."""
    cell, batch = 0, batches.find("1")
    while batch >= 0:
        cells = grid.cells_of(batch)
        yield from cells
        cell = cells.stop
        batch = batches.find("1", grid.batches_of(cell).start) if cell < grid.cells else -1


def run_lengths(letters: str) -> str:
    """Returns the letters as run lengths: `sssp` as `s3p1`."""
    return "".join(f"{letter}{len(list(same))}" for letter, same in groupby(letters))
