"""Ensures one code for each run, also for what its function's calls load: a change that differing files made is not written.

Files that a function imports by a name that is built during the call are known only then. The first process that loads such a file
tells the ledger its hash, before it writes what came of the call; a process with another file gives the batch back (hole H77).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.migrations.code import CodeFiles
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.batches import Batch
from whimbrel.engine.executing.lease import LeaseStopped
from whimbrel.engine.executing.transform import Transform, Transformed
from whimbrel.engine.operating.code_differences import NAMED
from whimbrel.ports import Ledger
from whimbrel.ports.loaded import Loaded


@dataclass(frozen=True, slots=True)
class Compared:
    """Files that calls have loaded here, compared with those of a run. `outdated`: changed on the disk since, and unknown to the run."""

    differing: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """Tells in a few words what differs."""
        named = [f"{name} differs" for name in self.differing[:NAMED]]
        more = [f"and {len(self.differing) - NAMED} more"] if len(self.differing) > NAMED else []
        return ", ".join([*named, *more])


def compare(
    ledger: Ledger, loaded: Loaded, run: str, code: CodeFiles, *, tell: Literal["nothing", "current", "all"]
) -> Compared:
    """Compares what this process has loaded of the user's files, since it loaded the migrations, with the run's files.

    `tell`: which files are announced to the run, if it does not know them yet: `current` are those that are unchanged on the disk.
    """
    if not loaded.times or not code.files:
        return Compared()
    later = loaded.later(code)
    announced = {"nothing": set(), "current": set(later.others) - later.stale, "all": set(later.others)}[tell]
    agreed = ledger.codes.agree(run, later.others, new=announced) if later.others else {}
    differing = [name for name, digest in later.others.items() if agreed.get(name, digest) != digest]
    outdated = [name for name in later.stale if name not in agreed]
    return Compared((*later.differing, *sorted(differing)), tuple(sorted(outdated)))


@dataclass(slots=True)
class SameCode:
    """Calls a function, and lets no change through that other code than the run's has made. One for each claimed batch.

    `run`: whose files count. `refuse` takes what differs: this process serves the run no more. `replace` takes files that have changed
    on the disk since this process loaded them, and that no process has announced: a newly started process should continue.
    """

    transform: Transform
    ledger: Ledger
    loaded: Loaded
    run: str
    refuse: Callable[[str], None]
    replace: Callable[[Sequence[str]], None]
    fresh: bool  # the process has settled nothing yet: a new one would load the same
    _times_checked: int = field(default=-1, init=False)

    def __call__(
        self,
        definition: Definition,
        batch: Batch,
        documents: Sequence[bytes],
        attempts: Mapping[Key, int],
        *,
        until: float,
    ) -> Transformed:
        """See `Transform`. Raises LeaseStopped where what the call loaded is not the run's."""
        transformed = self.transform(definition, batch, documents, attempts, until=until)
        times = self.loaded.times
        if times != self._times_checked:
            self._check(definition.code, batch)
            self._times_checked = times
        return transformed

    def _check(self, code: CodeFiles, batch: Batch) -> None:
        compared = compare(self.ledger, self.loaded, self.run, code, tell="all" if self.fresh else "current")
        if compared.differing:
            self.refuse(compared.description)
        elif compared.outdated:
            self.replace(compared.outdated)
        else:
            return
        raise LeaseStopped(batch.token)
