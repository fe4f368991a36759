"""Sums up what a verification proved, beside the coordinator's ticks: over very many batches that takes MongoDB seconds."""

import threading
from collections.abc import Collection
from dataclasses import dataclass, field

from whimbrel.domain.runs.run import Run
from whimbrel.engine.verifying.report import examined_everything, verification_report
from whimbrel.ports import Store

TOGETHER = 4  # proofs that one process computes at a time


@dataclass(slots=True)
class _Proof:
    """A proof that is being computed, or has ended: its result, or its error."""

    thread: threading.Thread
    result: tuple[bool, str] | None = None
    error: Exception | None = field(default=None)


class BackgroundReports:
    """The proofs of one process. Losing them does no harm: a proof that is computed twice is the same."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._proofs: dict[str, _Proof] = {}

    def outcome(self, run: Run, seconds: float) -> tuple[bool, str] | None:
        """Returns whether a verification found a fault, and a sentence for its row; None where it takes longer than so many seconds.

        The next call continues. Raises what the proof raises.
        """
        ledger = self._store.ledger
        if not examined_everything(ledger, run, seconds):
            return None
        proof = self._proofs.get(run.id)
        if proof is None:
            if len(self._proofs) >= TOGETHER:
                return None  # others come first
            proof = self._begin(ledger.runs.get(run.id) or run)
        proof.thread.join(seconds)
        if proof.thread.is_alive():
            return None
        del self._proofs[run.id]
        if proof.error is not None:
            raise proof.error
        return proof.result

    def is_computing(self, run_id: str) -> bool:
        """Whether a proof of this verification is being computed."""
        return run_id in self._proofs

    def keep(self, runs: Collection[str]) -> None:
        """Forgets the proofs of other runs; their results are dropped."""
        self._proofs = {run: proof for run, proof in self._proofs.items() if run in runs}

    def _begin(self, run: Run) -> _Proof:
        def work() -> None:
            try:
                proof.result = verification_report(
                    self._store.ledger, self._store.session().documents(run), run
                )
            except Exception as error:  # noqa: BLE001  raised in `outcome`
                proof.error = error

        proof = _Proof(threading.Thread(target=work, name=f"proof of {run.id}", daemon=True))
        self._proofs[run.id] = proof
        proof.thread.start()
        return proof
