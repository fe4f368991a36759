"""Starting a run: what is asked for, what it would do on a sample, and the confirmation. The page itself starts nothing."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from whimbrel.api.authorization import Caller, Reader
from whimbrel.api.deployment import Deployment, System, ThisSystem
from whimbrel.api.models.dry_run import Plan
from whimbrel.api.routes.starting import Start, Started, start_requested
from whimbrel.dashboard.rendering import render
from whimbrel.dashboard.shown_values import one_line, shown
from whimbrel.domain.bson.document_ids import relaxed
from whimbrel.domain.migrations.definition import Definition
from whimbrel.errors import WhimbrelError

router = APIRouter()
PHASES: Final = (
    ("pending", "those that are pending, where it marks by a status"),
    ("all", "all phases: pending, processing, failed, and a last look"),
    ("processing", "those left in processing"),
    ("failed", "those that are failed"),
)
NUMBERS: Final = ("maxDocsPerSecond", "batchSize", "priority", "nice", "holdSeconds")
LIMITS: Final = ("maxFailures", "maxFailureRate", "maxNewCause")
MARKED: Final = ("undo", "follow", "approve", "exclusive", "strict", "force")
ADVANCED: Final = (*NUMBERS, *LIMITS, "windows", "stages", "approve", "exclusive", "strict", "force")
FILTER_SHOWN: Final = 300  # characters of a migration's own filter
ELSEWHERE: Final = "Another site has sent you here: press the button to try the migration."
NOT_ALLOWED: Final = "Trying a migration takes a token of the scope operate."
NOTHING: Final[Mapping[str, Any]] = {
    "started": None,
    "plan": None,
    "problems": (),
    "body": {},
    "kept": False,
    "start": "",
}  # was tried
Text = Annotated[str, Query(max_length=200)]
LongText = Annotated[str, Query(max_length=20_000)]


@router.get("/dashboard/start")
def start(  # noqa: PLR0913, PLR0917  the fields of a form
    request: Request,
    system: ThisSystem,
    deployment: Deployment,
    caller: Reader,
    migration: Text = "",
    phase: Text = "pending",
    filters: LongText = "",
    windows: LongText = "",
    stages: Text = "",
    undo: Text = "",
    follow: Text = "",
    approve: Text = "",
    exclusive: Text = "",
    strict: Text = "",
    force: Text = "",
    max_docs_per_second: Annotated[str, Query(alias="maxDocsPerSecond", max_length=20)] = "",
    batch_size: Annotated[str, Query(alias="batchSize", max_length=20)] = "",
    priority: Text = "",
    nice: Text = "",
    hold_seconds: Annotated[str, Query(alias="holdSeconds", max_length=20)] = "",
    max_failures: Annotated[str, Query(alias="maxFailures", max_length=20)] = "",
    max_failure_rate: Annotated[str, Query(alias="maxFailureRate", max_length=20)] = "",
    max_new_cause: Annotated[str, Query(alias="maxNewCause", max_length=20)] = "",
    plan: Annotated[str, Query(max_length=1, description="1: try it on a sample")] = "",
) -> Response:
    """The form, filled as the address says, and with `plan` what the run would do. Nothing is written."""
    asked = {
        "migration": migration, "phase": phase, "filters": filters, "windows": windows, "stages": stages, "undo": undo, "follow": follow,
        "approve": approve, "exclusive": exclusive, "strict": strict, "force": force, "maxDocsPerSecond": max_docs_per_second,
        "batchSize": batch_size, "priority": priority, "nice": nice, "holdSeconds": hold_seconds, "maxFailures": max_failures,
        "maxFailureRate": max_failure_rate, "maxNewCause": max_new_cause,
    }  # fmt: skip
    definitions = [_definition_row(deployment, each) for each in system.loaded.values()]
    asked["migration"] = asked["migration"] or (definitions[0]["name"] if len(definitions) == 1 else "")
    tried = _tried(request, system, caller, asked) if plan else NOTHING
    return render(
        request, "start.html", asked=asked, definitions=definitions, unusable=system.loaded.broken, phases=PHASES,
        more=any(asked[name] for name in ADVANCED), **tried,
    )  # fmt: skip


def _definition_row(deployment: Deployment, definition: Definition) -> dict[str, Any]:
    database = definition.database or deployment.store.database
    text = json.dumps(relaxed(definition.filter), ensure_ascii=False) if definition.filter else ""
    return {
        "name": definition.name, "version": definition.version, "ns": f"{database}.{definition.collection}", "mark": definition.mark,
        "undo": definition.undo, "summary": definition.summary, "filter": text[:FILTER_SHOWN] + ("..." if len(text) > FILTER_SHOWN else ""),
    }  # fmt: skip


def _tried(request: Request, system: System, caller: Caller, asked: Mapping[str, str]) -> Mapping[str, Any]:
    """Tries what is asked for on a sample, or says why that cannot be."""
    started: Started | None = None
    body: dict[str, Any] = {}
    kept = False
    problems: list[str] = []
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        problems.append(ELSEWHERE)
    elif not caller.may("operate"):
        problems.append(NOT_ALLOWED)
    else:
        try:
            definition = system.evaluated(asked["migration"])
            body = body_of(asked, definition)
            kept = bool(definition.undo) or "undo" in body
            started = start_requested(
                system, caller, Response(), Start.model_validate({**body, "dryRun": True})
            )
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:20]]
        except (WhimbrelError, ValueError) as error:
            problems = [str(error)]
    if started is None or started.plan is None:
        return {**NOTHING, "problems": problems}
    start = _start_text(body, started, started.plan)
    return {
        "started": started,
        "plan": _shown_plan(started.plan),
        "problems": problems,
        "body": body,
        "kept": kept,
        "start": start,
    }


def _start_text(body: Mapping[str, Any], started: Started, plan: Plan) -> str:
    """Returns the body of the request that starts what was tried, as JSON in ASCII: the page must not change a character of it, nor the order of a filter."""
    seen = {"documents": plan.selected.estimated, "collection": started.collection, "host": started.host}
    return json.dumps({**body, "seen": seen, "seenCauses": [failure.group for failure in plan.failures]})


def body_of(asked: Mapping[str, str], definition: Definition) -> dict[str, Any]:
    """Returns the body of `POST /migrate` that the fields of the form stand for. Raises ValueError where one cannot be read."""
    body: dict[str, Any] = {"migration": definition.name}
    filters = _filters(asked["filters"])
    if definition.mark == "status":
        chosen = {} if asked["phase"] == "all" else {definition.status_field: asked["phase"]}
        filters = {**chosen, **(filters or {})}
    if filters is not None:
        body["filters"] = filters
    body |= {name: _number(asked[name]) for name in (*NUMBERS, *LIMITS) if asked[name].strip()}
    body |= {name: True for name in MARKED if asked[name]}
    if windows := [line.strip() for line in asked["windows"].splitlines() if line.strip()]:
        body["windows"] = windows
    if stages := [part.strip() for part in asked["stages"].split(",") if part.strip()]:
        body["stages"] = stages
    return body


def _filters(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"The filter is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ValueError('The filter must be a JSON object, such as {"country": "NL"}.')  # noqa: TRY004  of a text
    return found


def _number(text: str) -> int | float | str:
    """Returns a number as JSON has it; any other text as it is, for the model to refuse."""
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text.strip()


def _shown_plan(plan_of_sample: Plan) -> dict[str, Any]:
    """Returns the plan with its values as texts."""
    plan: dict[str, Any] = plan_of_sample.model_dump()
    for diff in plan["diffs"]:
        diff["id"] = _inline(diff["id"])
        for change in diff["changes"]:
            change["old"], change["new"] = shown(change["old"]), shown(change["new"])
    for failure in plan["failures"]:
        failure["example"] = _inline(failure["example"])
    for clash in plan["unique_indexes"]:
        clash["id"], clash["other"] = _inline(clash["id"]), _inline(clash["other"])
    return plan


def _inline(value: Any) -> str:
    return one_line(value, longest=200)
