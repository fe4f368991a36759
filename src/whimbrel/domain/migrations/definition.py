"""The definition of a migration, as values: what a run keeps and what is checked."""

from dataclasses import dataclass, field
from typing import Any, Literal

from whimbrel.domain.bson.uuids import UNSPECIFIED
from whimbrel.domain.migrations.code import CodeFiles
from whimbrel.domain.migrations.marks import Mark, mark_of, marker_field
from whimbrel.domain.migrations.sequence import Dependency
from whimbrel.domain.migrations.updates import Update

MarkStrategy = Literal["marker", "status", "filter"]
UndoMode = Literal[False, True, "document"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """A migration without its code: what a run pins, and what processes without user code know."""

    name: str
    collection: str
    database: str | None = None
    version: int = 1
    filter: dict[str, Any] = field(default_factory=dict)
    mark: MarkStrategy = "marker"
    status_field: str = "status"
    batch_size: int | None = None
    max_attempts: int | None = None
    timeout: float = 30.0
    reads: tuple[str, ...] | None = None
    claim: bool = False
    adopt: Literal["ours", "all"] = "ours"
    concurrency: int = 16
    undo: UndoMode = False
    update: Update | None = None
    code_hash: str = ""
    code: CodeFiles = field(default_factory=CodeFiles)
    summary: str = ""
    uuids: str = UNSPECIFIED  # how a run stores values of `uuid.UUID`, set by its MongoDB address
    depends_on: tuple[str, ...] = ()  # as its author wrote it
    dependencies: tuple[Dependency, ...] = ()  # the same, with what the loaded migrations tell of them

    @property
    def declarative(self) -> bool:
        return self.update is not None

    @property
    def marking(self) -> Mark:
        return mark_of(self.mark, marker_field(self.name, self.version), self.status_field)
