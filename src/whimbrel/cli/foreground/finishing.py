"""Works in the foreground until a migration is complete and verified, beside other processes that may do the same."""

import time
from collections.abc import Sequence
from typing import Final

from whimbrel.bootstrap import Opened
from whimbrel.cli.arguments.options import caller
from whimbrel.cli.foreground.begin_and_end import show_run
from whimbrel.cli.foreground.foreground import CHANGED_SINCE, Foreground, RunEnding
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.preflight_findings import consent
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.preflight_findings import Finding
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.standing import Standing
from whimbrel.engine.executing.restore import definition_without_code
from whimbrel.engine.operating.ensure import Step, next_step
from whimbrel.engine.operating.sequence import standing_of_definition
from whimbrel.engine.rehearsing.finish_step import FinishStep
from whimbrel.errors import AlreadyStarted, StateForbids
from whimbrel.settings import Settings
from whimbrel.workers.function_caller import FunctionCaller
from whimbrel.workers.worker_pool import WorkerPool

MOVING = 10.0  # seconds until what another process has just started must be seen
LOOK = 0.1
ROUTE: Final = "whimbrel ensure"
GOOD = (0, CHANGED_SINCE)


class Finishing:
    """One command's work on all that is missing."""

    def __init__(
        self,
        system: Opened,
        settings: Settings,
        screen: Screen,
        interrupts: Interrupts,
        pool: WorkerPool,
        calls: FunctionCaller,
        *,
        yes: bool,
    ) -> None:
        self._system, self._settings, self._screen, self._interrupts = system, settings, screen, interrupts
        self._pool, self._yes = pool, yes
        self._ledger = system.store.ledger
        self._step = FinishStep(
            system.store, who=caller(), defaults=settings.defaults, route=ROUTE, callers=calls.of, before=self._before_writing
        )  # fmt: skip

    def finish(self, definition: Definition) -> int:
        """Does what is missing, each step once; waits for what others do. Returns 0, or the exit code of what did not end well."""
        done = set[Step]()
        while (
            following := next_step(found := standing_of_definition(self._system.store, definition))
        ) is not None:
            step, run = following
            if step != "wait" and step in done:
                raise StateForbids(
                    f"Migration {definition.name} is not complete and verified, though that was tried. {found.why}"
                )
            try:
                run = self._step.take(step, run, definition, found)
            except StateForbids as refused:
                if not self._has_moved(
                    definition, found, seconds=MOVING if isinstance(refused, AlreadyStarted) else 0
                ):
                    raise
                continue  # another process has done the same at the same moment: its run is waited for
            done.add(step)
            code = self._work(run, definition)
            if code not in GOOD:
                return code
        return 0

    def _before_writing(self, warnings: Sequence[Finding]) -> None:
        """Asks the person where there are warnings; from then on Ctrl-C pauses what is begun."""
        consent(self._screen, warnings, yes=self._yes)
        self._interrupts.arm()

    def _has_moved(self, definition: Definition, before: Standing, *, seconds: float) -> bool:
        """Whether the migration is not as it was before. What another process has written may take a moment until a majority has it."""
        end = time.monotonic() + seconds
        while True:
            now = standing_of_definition(self._system.store, definition)
            if (now.state, now.newest, now.why) != (before.state, before.newest, before.why):
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(LOOK)

    def _work(self, run: Run, definition: Definition) -> int:
        kind = "Verification" if run.kind == "verification" else "Run"
        self._screen.say(f"{kind} {run.id} of {run.migration} on {run.ns} is {run.status}.")
        needed = definition if run.has_user_code else definition_without_code(run)
        foreground = Foreground(self._system, self._settings, self._screen, self._interrupts)
        ending = foreground.work(run, needed, self._pool)
        self._report(ending)
        return ending.exit_code

    def _report(self, ending: RunEnding) -> None:
        if not self._screen.json:
            show_run(self._screen, self._ledger, ending, advise=ending.exit_code not in GOOD)
        if ending.said:
            self._screen.say(ending.said)
