"""`plan`: show what a run would do, without one."""

from dataclasses import replace
from typing import Annotated

import typer

from whimbrel.cli.arguments.options import Json, MigrationName, Source, begin, source
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.dry_run import differences, failed_table, plan_table
from whimbrel.cli.output.preflight_findings import findings_lines
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.migrations.definition_checks import with_undo
from whimbrel.domain.migrations.filters import parse_filter
from whimbrel.domain.runs.preflight_findings import Finding, finding_object, refusal
from whimbrel.engine.operating.already_done import nothing_left
from whimbrel.engine.operating.preflight import preflight
from whimbrel.engine.operating.start import compose_run, has_documents
from whimbrel.engine.rehearsing.dry_run import DOCUMENTS, LARGEST_SAMPLE, SAMPLE, DryRun, dry_run
from whimbrel.engine.rehearsing.dry_run_view import dry_run_object
from whimbrel.errors import DependencyIncomplete
from whimbrel.workers import definition_catalog
from whimbrel.workers.function_caller import callers
from whimbrel.workers.worker_pool import cores

OBJECTIONS = 2  # exit code where documents of the sample would fail, or break a validator or a unique index


def plan(
    name: MigrationName,
    migrations: Source = None,
    sample: Annotated[
        int, typer.Option(metavar="N", min=1, max=LARGEST_SAMPLE, help="documents to try it on")
    ] = SAMPLE,
    documents: Annotated[
        int, typer.Option(metavar="N", min=0, max=LARGEST_SAMPLE, help="documents to show before and after")
    ] = DOCUMENTS,
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="EJSON", help="only documents that match this too")
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="of a run with --undo: before-images count as growth")
    ] = False,
    json: Json = False,
) -> int:
    """Show what a run would do, on a sample of its documents. Nothing is written."""
    settings, screen = begin(json=json)
    narrower = None if filter_ is None else parse_filter(filter_)
    where = source(migrations, settings)
    loaded = definition_catalog.describe(where)
    definition = choose(loaded, name)
    definition = with_undo(definition) if undo else definition
    with Interrupts(), open_database(settings, screen) as system:
        draft = compose_run(system.store, definition, defaults=settings.defaults, filter_=narrower)
        if system.store.errors(draft, definition):
            return _refused(screen, preflight(system.store, definition, draft, None))
        result = dry_run(
            system.store,
            definition,
            draft,
            callers(where, loaded.unloadable),
            workers=cores(),
            size=sample,
            documents=documents,
        )
        if not result.selected.estimated and not has_documents(system.store, draft):
            screen.say(nothing_left(system.store, draft))
            result = replace(result, warnings=())  # warnings are about what a run would do
    if json:
        screen.answer(dry_run_object(result))
    else:
        _show(screen, result)
    refused = refusal(result.warnings)
    if isinstance(refused, DependencyIncomplete):  # what comes first may be why documents of the sample fail
        return refused.exit_code
    return OBJECTIONS if result.objections else 0


def _refused(screen: Screen, findings: list[Finding]) -> int:
    """Shows all findings against the run at once, where no document can be tried."""
    if screen.json:
        screen.answer({"warnings": [finding_object(finding) for finding in findings]})
    else:
        screen.tell(*findings_lines(findings))
    error = refusal(findings)
    return 0 if error is None else error.exit_code


def _show(screen: Screen, dry_run: DryRun) -> None:
    screen.show(plan_table(dry_run))
    if dry_run.failures:
        screen.show(failed_table(dry_run.failures))
        named = dry_run.run.migration
        screen.note(
            f"a run pauses where a cause that it has not seen fails too many documents. Show it these: whimbrel plan {named} --json > plan.json, "
            f"then whimbrel run {named} --plan plan.json"
        )
    screen.show(*findings_lines(dry_run.warnings))
    screen.show(*differences(dry_run, screen.out.width))
    screen.say("Nothing was written.", style="dim")
