"""The options that a run was started with, as they are stored and shown: its settings may be changed later."""

from typing import Any

from whimbrel.domain.runs.run import Run


def options_of(run: Run) -> dict[str, Any]:
    """Returns the options of a run that starts. `batchSize` None: as batches are measured."""
    stages = run.stages
    return {
        "batchSize": None if run.sizing.measured else run.batch_size, "maxDocsPerSecond": run.rate, "priority": run.priority,
        "windows": list(run.windows), "nice": run.nice, "maxFailures": run.budget.failures, "maxFailureRate": run.budget.rate,
        "maxNewCause": run.budget.new_cause, "follow": run.follow is not None, "undo": run.undo, "adopt": run.adopt,
        "stages": [] if stages is None else [stage.asked for stage in stages.stages],
        "hold": None if stages is None else stages.hold, "approve": stages is not None and stages.approve,
    }  # fmt: skip
