"""One run, one code, for what calls of its function load: no change is written that files have made which differ from the run's.

Files that a function imports by a name that is made when it is called are known only then. The first process that loads one
tells the ledger its hash, before it writes what came of the call; a process with another one gives the batch back (hole H77).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.migrations.code import CodeFiles
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.batches import Batch
from whimbrel.engine.executing.lease import LeaseStopped
from whimbrel.engine.executing.transform import Transform, Transformed
from whimbrel.engine.operating.code_differences import NAMED
from whimbrel.ports import Ledger
from whimbrel.ports.loaded import Loaded


@dataclass(frozen=True, slots=True)
class Compared:
    """Files that calls have loaded here, beside those of a run. `outdated`: nobody has told of them, and they are others by now."""

    differing: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """What differs, in a few words."""
        told = [f"{name} differs" for name in self.differing[:NAMED]]
        more = [f"and {len(self.differing) - NAMED} more"] if len(self.differing) > NAMED else []
        return ", ".join([*told, *more])


def compare(
    ledger: Ledger, loaded: Loaded, run: str, code: CodeFiles, *, tell: Literal["nothing", "current", "all"]
) -> Compared:
    """What this process has loaded of the user's files since it has loaded the migrations.

    `tell`: which files the run is told of, if it knows nothing of them yet: `current` are those that are still the same on the disk.
    """
    if not loaded.times or not code.files:
        return Compared()
    later = loaded.later(code)
    told = {"nothing": set(), "current": set(later.others) - later.stale, "all": set(later.others)}[tell]
    held = ledger.codes.agree(run, later.others, new=told) if later.others else {}
    differing = [name for name, digest in later.others.items() if held.get(name, digest) != digest]
    outdated = [name for name in later.stale if name not in held]
    return Compared((*later.differing, *sorted(differing)), tuple(sorted(outdated)))


@dataclass(slots=True)
class SameCode:
    """Asks a function, and lets nothing through that it has made of another code than the run's. One for each claimed batch.

    `run`: whose files count. `refuse` takes what differs: this process serves the run no more. `replace` takes files that have changed
    on the disk since this process has loaded them, and that no process has told of: one that begins now shall go on.
    """

    transform: Transform
    ledger: Ledger
    loaded: Loaded
    run: str
    refuse: Callable[[str], None]
    replace: Callable[[Sequence[str]], None]
    fresh: bool  # the process has settled nothing yet: another would be no newer
    _seen: int = field(default=-1, init=False)

    def __call__(
        self,
        definition: Definition,
        batch: Batch,
        documents: Sequence[bytes],
        attempts: Mapping[Key, int],
        *,
        until: float,
    ) -> Transformed:
        """See `Transform`. Raises LeaseStopped where what was loaded for it is not the run's."""
        found = self.transform(definition, batch, documents, attempts, until=until)
        times = self.loaded.times
        if times != self._seen:
            self._check(definition.code, batch)
            self._seen = times
        return found

    def _check(self, code: CodeFiles, batch: Batch) -> None:
        found = compare(self.ledger, self.loaded, self.run, code, tell="all" if self.fresh else "current")
        if found.differing:
            self.refuse(found.said)
        elif found.outdated:
            self.replace(found.outdated)
        else:
            return
        raise LeaseStopped(batch.token)
