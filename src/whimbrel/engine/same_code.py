"""One run, one code, for what calls of its function load: no change is written that files have made which differ from the run's.

Files that a function imports by a name that is made when it is called are known only then. The first process that loads one
tells the ledger its hash, before it writes what came of the call; a process with another one gives the batch back (hole H77).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from whimbrel.domain.batches import Batch
from whimbrel.domain.code import Code
from whimbrel.domain.migration import Definition
from whimbrel.domain.raw import Key
from whimbrel.engine.code import NAMED
from whimbrel.engine.lease import Stopped
from whimbrel.engine.transform import Transform, Transformed
from whimbrel.ports import Ledger
from whimbrel.ports.loaded import Loaded


def strange(ledger: Ledger, loaded: Loaded, run: str, code: Code) -> str:
    """What of the user's files this process has loaded since it began that is not the run's, in a few words; nothing where all is."""
    if not loaded.times or not code.files:
        return ""
    later = loaded.later(code)
    found = [f"{name} differs" for name in later.differing]
    if later.others:
        held = ledger.codes.agree(run, later.others, new=set(later.others) - later.stale)
        for name, digest in later.others.items():
            if name not in held:
                found.append(f"{name} has changed since it was loaded")
            elif held[name] != digest:
                found.append(f"{name} differs")
    more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
    return ", ".join([*found[:NAMED], *more])


@dataclass(slots=True)
class SameCode:
    """Asks a function, and lets nothing through that it has made of another code than the run's. One for each claimed batch."""

    transform: Transform
    ledger: Ledger
    loaded: Loaded
    run: str  # whose files count
    refuse: Callable[[str], None]  # takes what differs: this process serves the run no more
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
        """See `Transform`. Raises Stopped where what was loaded for it is not the run's."""
        found = self.transform(definition, batch, documents, attempts, until=until)
        times = self.loaded.times
        if times != self._seen:
            if why := strange(self.ledger, self.loaded, self.run, definition.code):
                self.refuse(why)
                raise Stopped(batch.token)
            self._seen = times
        return found
