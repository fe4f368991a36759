"""What MongoDB's planner says, for people: its stages, and statements in one line."""

from collections.abc import Mapping
from typing import Any

from bson import json_util

LONGEST = 500  # characters of a filter, or of a statement


def outline(plan: Mapping[str, Any]) -> str:
    """The stages of a plan, from the last to the first: `FETCH < IXSCAN status_1`."""
    stages = []
    here: Mapping[str, Any] | None = plan.get("queryPlan", plan)
    while here:
        name = here.get("indexName")
        stages.append(f"{here.get('stage', '?')} {name}" if name else str(here.get("stage", "?")))
        here = here.get("inputStage") or next(iter(here.get("inputStages", ())), None)
    return " < ".join(stages)


def shortened(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A winning plan without what only the server itself needs, and without endless filters."""
    plan = plan.get("queryPlan", plan)
    kept = ("stage", "indexName", "keyPattern", "direction", "indexBounds", "filter")
    found = {name: plan[name] for name in kept if name in plan}
    for name in ("filter", "indexBounds"):
        if len(repr(found.get(name))) > LONGEST:
            found[name] = f"{found[name]!r:.{LONGEST}}..."
    if "inputStage" in plan:
        found["inputStage"] = shortened(plan["inputStage"])
    if "inputStages" in plan:
        found["inputStages"] = [shortened(each) for each in plan["inputStages"]]
    return found


def shown(command: Mapping[str, Any]) -> str:
    """A command as Extended JSON, cut where it is long."""
    text = json_util.dumps(command, json_options=json_util.RELAXED_JSON_OPTIONS)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
