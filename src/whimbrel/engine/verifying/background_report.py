"""What a verification proved is summed up beside the coordinator's rounds: over very many batches that takes MongoDB seconds."""

import threading
from collections.abc import Collection
from dataclasses import dataclass, field

from whimbrel.domain.runs.run import Run
from whimbrel.engine.verifying.report import examined_everything, verification_report
from whimbrel.ports import Store

TOGETHER = 4  # proofs that one process makes at a time


@dataclass(slots=True)
class _Proof:
    """One that is under way, or over: what came of it, or what went wrong."""

    thread: threading.Thread
    found: tuple[bool, str] | None = None
    error: Exception | None = field(default=None)


class BackgroundReports:
    """One process's proofs. What is kept here may be lost: a proof that is made twice is the same."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._underway: dict[str, _Proof] = {}

    def found(self, run: Run, seconds: float) -> tuple[bool, str] | None:
        """Whether a verification found a fault, and a sentence for its row; None where it takes longer than so many seconds.

        Asked again, it goes on. Raises what the proof raises.
        """
        ledger = self._store.ledger
        if not examined_everything(ledger, run, seconds):
            return None
        proof = self._underway.get(run.id)
        if proof is None:
            if len(self._underway) >= TOGETHER:
                return None  # the turn of others
            proof = self._begin(ledger.runs.get(run.id) or run)
        proof.thread.join(seconds)
        if proof.thread.is_alive():
            return None
        del self._underway[run.id]
        if proof.error is not None:
            raise proof.error
        return proof.found

    def proves(self, run_id: str) -> bool:
        """Whether a proof of this verification is under way."""
        return run_id in self._underway

    def keep(self, runs: Collection[str]) -> None:
        """Forget the proofs of other runs; what they still ask comes to nothing."""
        self._underway = {run: it for run, it in self._underway.items() if run in runs}

    def _begin(self, run: Run) -> _Proof:
        def work() -> None:
            try:
                proof.found = verification_report(
                    self._store.ledger, self._store.session().documents(run), run
                )
            except Exception as error:  # noqa: BLE001  raised where it is asked for
                proof.error = error

        proof = _Proof(threading.Thread(target=work, name=f"proof of {run.id}", daemon=True))
        self._underway[run.id] = proof
        proof.thread.start()
        return proof
