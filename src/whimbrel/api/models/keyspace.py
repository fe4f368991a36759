"""Models of the strip of a run's key space."""

from typing import Any

from pydantic import Field

from whimbrel.api.models.envelope import Answer, Model
from whimbrel.api.models.example_ids import RUN

LETTERS = "s settled, r settled and what failed was tried again in a later phase, f settled with unresolved failures, w being worked on, v the same with failures, p pending, x cancelled, n not planned yet"


class LegOf(Model):
    """A leg of a run: one phase, or one of the phases of a stage."""

    leg: int = Field(description="its number, from 0", examples=[0])
    phase: str = Field(description="pending, processing, failed, sweep or follow", examples=["pending"])
    begun: bool = Field(description="whether the run has come to it", examples=[True])


class BatchStates(Model):
    """Batches of a leg by their state."""

    settled: int = Field(description="done", examples=[420])
    working: int = Field(description="being worked on", examples=[2])
    pending: int = Field(description="planned, and not begun, or given back", examples=[14])
    cancelled: int = Field(description="cancelled with the run", examples=[0])


class StripStates(BatchStates):
    """Batches of the whole leg by their state."""

    not_planned: int = Field(description="still to be planned, an estimate", examples=[564])
    with_failures: int = Field(
        description="of all these, those with unresolved failures; a document that was tried again counts in the batch of the phase `failed` that tried it last",
        examples=[3],
    )


class CellOf(Model):
    """What one cell is about."""

    cell: int = Field(description="its number, from 0", examples=[17])
    state: str = Field(description=f"its letter: {LETTERS}", examples=["s"])
    parts: int = Field(
        description="how many cells one batch has; 1: a cell has one batch or more", examples=[1]
    )
    part: int = Field(description="which of them it is, from 0", examples=[0])
    batches: int = Field(description="batches in it, or 1 where it is a part of one", examples=[10])
    first_batch: str | None = Field(
        description="id of the first; null: not planned yet", examples=[f"{RUN}.171"]
    )
    last_batch: str | None = Field(description="id of the last", examples=[f"{RUN}.180"])
    documents: int | None = Field(description="documents planned in it; null: not known", examples=[50_000])
    after: Any = Field(
        description="its documents' `_id`s are greater than this: relaxed Extended JSON; null: it begins where the collection does, or names its documents",
        examples=[{"$oid": "6565f0c2a1b2c3d4e5f60718"}],
    )
    first: Any = Field(description="where it names its documents: the first `_id`", examples=[None])
    through: Any = Field(
        description="its last `_id`; null: it has no document, or its batches were merged with others",
        examples=[{"$oid": "6565f0c2a1b2c3d4e5f6ffff"}],
    )
    states: BatchStates | None = Field(description="its batches by state; null: not planned yet")
    with_failures: int = Field(description="of these, those with unresolved failures", examples=[0])


class KeySpaceAnswer(Answer):
    """A leg of a run as a strip of cells in the order of its batches, which is that of the keys where these are ranges."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    leg: int = Field(description="which leg this is", examples=[0])
    phase: str = Field(description="its phase", examples=["pending"])
    legs: list[LegOf] = Field(description="all legs of the run")
    count: int = Field(description="how many cells there are", examples=[1000])
    cells: str = Field(
        pattern="^([srfwvpxn][1-9][0-9]*)*$",
        description=f"run lengths of the cells: `s3w1` is three of s and one of w. Letters: {LETTERS}. A cell of several batches shows work before failures, failures before what is pending, that before what was tried again, and that before what is settled",
        examples=["s420w2p14n564"],
    )
    batches: StripStates = Field(description="the same as numbers of batches")
    cell: CellOf | None = Field(description="what was asked for with `cell`; null: nothing was")
