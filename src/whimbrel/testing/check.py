"""`check_migration`: runs a migration on given documents, and proves that it keeps its promises."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from whimbrel.domain.migrations.migration import Migration
from whimbrel.errors import WhimbrelError
from whimbrel.testing import proofs
from whimbrel.testing.expected import Expected, rehearse_migration
from whimbrel.testing.trial import Document, Prepare, Trial, nothing, open_trial


class Unproved(AssertionError):
    """A migration does not do what it should: names every proof that failed, with the reason. pytest shows it as a failed assertion.

    `uri` is the address of a MongoDB, such as the fixture `whimbrel_mongodb` has it:

    >>> import random
    >>> from whimbrel import migration
    >>> from whimbrel.testing import Unproved, check_migration
    >>> @migration(collection="people")
    ... def lottery(person):
    ...     return {"$set": {"number": random.random()}}
    >>> try:
    ...     check_migration(lottery, [{"_id": 1}], uri=uri, kill=False)
    ... except Unproved as error:
    ...     print(str(error).splitlines()[0])
    lottery does not hold:
    """


@dataclass(frozen=True, slots=True)
class Checked:
    """What was proved, in sentences; and what could not be checked, with the reason.

    >>> from whimbrel.testing import Checked
    >>> print(Checked(proved=["One run changes 3 documents."], left_out={"undo": "kept no before-images"}))
    proved: One run changes 3 documents.
    not looked at: undo: kept no before-images
    """

    proved: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"proved: {sentence}" for sentence in self.proved]
        return "\n".join([*lines, *(f"not looked at: {name}: {why}" for name, why in self.left_out.items())])


Proof = Callable[[Trial, Expected], str]
PROOFS: dict[str, Proof] = {
    "one run": proofs.one_run,
    "deterministic": proofs.deterministic,
    "idempotent or guarded": proofs.idempotent_or_guarded,
    "killed at every step": proofs.killed_at_every_step,
    "a concurrent writer wins": proofs.concurrent_writer,
    "declared reads": proofs.reads,
    "undo": proofs.undo,
}


def check_migration(
    migration: Migration,
    documents: Sequence[Document],
    *,
    uri: str | None = None,
    deterministic: bool = True,
    failing: Sequence[Any] = (),
    prepare: Prepare = nothing,
    kill: bool = True,
) -> Checked:
    """Prove a migration on some documents, in a database that is created for it and dropped afterwards.

    Proves that one run does what the transform says; that the transform is deterministic, and idempotent or guarded by its mark; that a
    process killed at any step of the protocol does not change the outcome; that what an application writes meanwhile stays; that
    declared `reads` are all that the function reads; that a run with undo can be rolled back byte for byte.

    documents: to migrate, each with or without an `_id`; the migration must select at least one.
    uri: the address of a MongoDB (a replica set), such as the fixture `whimbrel_mongodb`; by default an embedded one is started.
    deterministic: False for a transform that reads the clock, for example; what varies is then left out of comparisons.
    failing: the `_id`s of documents that must fail.
    prepare: called with the collection before the documents are inserted, to create indexes or a validator.
    kill: False leaves out the slowest proof, that by killed processes.

    Raises Unproved with every fault found; ValueError where nothing is selected.

    >>> from whimbrel import Migration
    >>> from whimbrel.testing import check_migration
    >>> cents = Migration(
    ...     name="price-in-cents", collection="products", update=[{"$set": {"cents": {"$multiply": ["$price", 100]}}}]
    ... )
    >>> found = check_migration(cents, [{"price": 3}, {"price": 4.5}], uri=uri, kill=False)
    >>> found.left_out["killed at every step"]
    'kill=False'
    """
    with open_trial(migration, documents, uri, prepare) as trial:
        expected = rehearse_migration(trial, deterministic=deterministic, failing=failing)
        checked = Checked()
        faults = list(_faults(trial, expected, checked, set() if kill else {proofs.killed_at_every_step}))
        if faults:
            raise Unproved("\n".join([f"{migration.name} does not hold:", *faults, str(checked)]))
        return checked


def _faults(trial: Trial, expected: Expected, checked: Checked, left_out: set[Proof]) -> Iterator[str]:
    for name, proof in PROOFS.items():
        if proof in left_out:
            checked.left_out[name] = "kill=False"
            continue
        try:
            checked.proved.append(proof(trial, expected))
        except proofs.NotApplicable as error:
            checked.left_out[name] = str(error)
        except proofs.Fault as error:
            yield f"- {name}: {error}"
        except (WhimbrelError, TimeoutError, RuntimeError) as error:
            yield f"- {name}: {type(error).__name__}: {error}"
