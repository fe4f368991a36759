"""What schemathesis does otherwise than by itself, each with its reason.

The OpenAPI document is what is tested, so nothing here changes it. These are things that a schema cannot say.
"""

import itertools
import re
from typing import Any
from urllib.parse import unquote

import schemathesis
from hypothesis import strategies

MOST = 3  # samples and rows: more of them take longer, and try nothing else
ALLOWED = {"count": 10_000_000, "someModelCount": 10_000_000, "jobStatusCount": 10_000, "limit": 1000}
DEFAULTS = {  # where a count that is left out is larger
    "POST /seed/some-model": ["count"],
    "POST /seed/job-status": ["count"],
    "POST /seed/all": ["someModelCount", "jobStatusCount"],
}
UNKNOWN = {  # what the document cannot know: any other value is a 404, and no more
    "POST /migrate/failures/{migrationId}/retry": ["group"],
}
WHOLE = 2**63
LEVELS = 15
fresh = itertools.count()

schemathesis.openapi.format("cron", strategies.sampled_from(["*/5 * * * *", "0 3 * * 1-5", "30 0 3 1 * *"]))
schemathesis.openapi.format("time-zone", strategies.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]))
schemathesis.openapi.format(
    "moment", strategies.sampled_from(["2026-11-24T12:00:00Z", "2026-11-24", "2026-11-24T12:00:00+01:00"])
)
WINDOWS = ["22:00-06:00 Europe/Berlin", "Mon-Fri 00:00-24:00 UTC share=0.2", "Sat,Sun 9:30-17:00"]
schemathesis.openapi.format("run-window", strategies.sampled_from(WINDOWS))
MOMENTS = ["2026-11-24T12:00:00Z", "2026-11-24T12:00:00.123+01:00", "2026-11-24", "1999-12-31T23:59:59-11:00"]
schemathesis.openapi.format("moment", strategies.sampled_from(MOMENTS))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    for part in (case.body, case.path_parameters, case.query):
        if isinstance(part, dict):
            _bound(part)
    _new_key(case.headers)
    if case.meta is not None and case.meta.generation.mode.is_positive:
        _make_sense(case.operation.label, case)


def _bound(part: dict[str, Any]) -> None:
    """Counts that the contract allows, but are larger than `MOST`, become `MOST`."""
    for name in ALLOWED.keys() & part.keys():
        given = part[name]
        text = isinstance(given, str) and given.isascii() and given.isdigit()  # in paths and queries
        number = float(given) if text or type(given) in (int, float) else 0.0
        if MOST < number <= ALLOWED[name] and number.is_integer():
            part[name] = str(MOST) if text else MOST


def _new_key(headers: Any) -> None:
    """An Idempotency-Key stands for one request: with another one it is refused, as it must be."""
    name = "Idempotency-Key"
    if headers and re.fullmatch("[!-~]{1,200}", str(headers.get(name, ""))):
        headers[name] = f"{headers[name][:150]}-{next(fresh)}"


def _make_sense(operation: str, case: Any) -> None:
    """What a valid request needs beyond its schema."""
    if isinstance(case.body, dict):
        _make_sense_of(operation, case.body)
    if operation in (
        "GET /migrate",
        "GET /migrate/jobs",
        "GET /migrate/failures/{migrationId}",
        "GET /webhooks/deliveries",
        "GET /audit",
        "GET /migrate/audit/{migrationId}",
    ):
        # A cursor is what an answer has given: any other is refused.
        case.query.pop("cursor", None)
        # The one must be before the other.
        case.query.pop("to", None)
    if operation == "GET /migrate/jobs" and case.query.get("parentJobId") is None:
        # One query parameter needs another.
        case.query.pop("jobType", None)
    if operation == "GET /migrate/series/{migrationId}":
        # One must be later than the other.
        case.query.pop("to", None)
    if operation in ("POST /migrate/rollback/{migrationId}", "POST /migrate/cleanup/{migrationId}"):
        # The confirmation is the id that stands in the path, where it is quoted already.
        given = case.body if isinstance(case.body, dict) else {}
        case.body = {**given, "confirm": unquote(str(case.path_parameters["migrationId"]))}
        case.media_type = "application/json"
    if operation == "DELETE /seed/clear":
        # It must stand in one of two places.
        case.query["confirm"] = "DELETE_ALL_DATA"


def _make_sense_of(operation: str, body: dict[str, Any]) -> None:
    if isinstance(body.get("filters"), dict):
        # The operators of MongoDB's queries are a language of their own: here fields are compared with values.
        # `status` alone may only be that of a phase.
        body["filters"] = {
            name: each for name, each in _plain(body["filters"]).items() if "status" not in str((name, each))
        }
    if "migration" in body:
        # Which ones are loaded is not known to the document: another name is a 404, and no more.
        body["migration"] = "some-model"
    if operation == "POST /migrate/bulk":
        # Any JSON is an id, but an array; and an object with a name such as $oid is Extended JSON.
        body["ids"] = [str(each) if isinstance(each, list) else _plain(each) for each in body["ids"]]
    for name in DEFAULTS.get(operation, ()):
        body.setdefault(name, MOST)
    for name in UNKNOWN.get(operation, ()):
        body.pop(name, None)


def _plain(value: Any, level: int = 0) -> Any:
    """The value without what MongoDB or Extended JSON read as their own."""
    if isinstance(value, dict):
        return {
            name: _plain(each, level + 1)
            for name, each in value.items()
            if level < LEVELS and not name.startswith("$") and "\0" not in name
        }
    if isinstance(value, list):
        return [_plain(each, level + 1) for each in value if level < LEVELS]
    if isinstance(value, int) and not -WHOLE <= value < WHOLE:
        return 0
    return value
