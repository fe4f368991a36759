"""Shows MongoDB's query plans and statements to people, in one line."""

from collections.abc import Mapping
from typing import Any

from bson import json_util

LONGEST = 500  # characters of a filter, or of a statement


def outline(plan: Mapping[str, Any]) -> str:
    """Returns the stages of a plan, from the last to the first: `FETCH < IXSCAN status_1`."""
    stages = []
    stage: Mapping[str, Any] | None = plan.get("queryPlan", plan)
    while stage:
        name = stage.get("indexName")
        stages.append(f"{stage.get('stage', '?')} {name}" if name else str(stage.get("stage", "?")))
        stage = stage.get("inputStage") or next(iter(stage.get("inputStages", ())), None)
    return " < ".join(stages)


def shortened(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a winning plan without what only the server needs, and with long filters cut."""
    plan = plan.get("queryPlan", plan)
    shown_fields = ("stage", "indexName", "keyPattern", "direction", "indexBounds", "filter")
    short = {name: plan[name] for name in shown_fields if name in plan}
    for name in ("filter", "indexBounds"):
        if len(repr(short.get(name))) > LONGEST:
            short[name] = f"{short[name]!r:.{LONGEST}}..."
    if "inputStage" in plan:
        short["inputStage"] = shortened(plan["inputStage"])
    if "inputStages" in plan:
        short["inputStages"] = [shortened(stage) for stage in plan["inputStages"]]
    return short


def shown(command: Mapping[str, Any]) -> str:
    """Returns a command as Extended JSON, cut where it is long."""
    text = json_util.dumps(command, json_options=json_util.RELAXED_JSON_OPTIONS)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
