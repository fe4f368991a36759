"""What the use cases need from the outside. Each method's docstring is the guarantee that its tests check.

Every method may raise Transient (will pass by itself) and Systemic (a person must look).
"""

import importlib

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from whimbrel.ports.answers import Answers, GivenAnswer
    from whimbrel.ports.batches import Batches
    from whimbrel.ports.broker import Broker, Delivery, Feed
    from whimbrel.ports.changes import Change, Changes
    from whimbrel.ports.documents import CutPoints, Documents, GuardedChange, Write, Written
    from whimbrel.ports.examiner import Examiner, Marked
    from whimbrel.ports.failures import Failures
    from whimbrel.ports.followed_runs import FollowedRuns
    from whimbrel.ports.freezes import FreezeLook, Freezes
    from whimbrel.ports.health import (
        HealthCheck,
        HealthReader,
        HealthRecords,
        HealthSample,
        HealthSettings,
        Watching,
    )
    from whimbrel.ports.known_causes import KnownCauses
    from whimbrel.ports.leases import Leases
    from whimbrel.ports.ledger import Ledger
    from whimbrel.ports.page import Page
    from whimbrel.ports.proofs import Proofs
    from whimbrel.ports.rehearsal import (
        Caller,
        Callers,
        Choice,
        Clash,
        FunctionAnswer,
        Rehearsal,
        UniqueIndex,
        Validator,
    )
    from whimbrel.ports.runs import Runs
    from whimbrel.ports.schedules import Decision, ScheduleLook, Schedules
    from whimbrel.ports.sessions import LoggedIn, LoginSessions
    from whimbrel.ports.store import Ahead, Session, Store
    from whimbrel.ports.survey import Query, Survey

__all__ = [
    "Ahead",
    "Answers",
    "Batches",
    "Broker",
    "Caller",
    "Callers",
    "Change",
    "Changes",
    "Choice",
    "Clash",
    "CutPoints",
    "Decision",
    "Delivery",
    "Documents",
    "Examiner",
    "Failures",
    "Feed",
    "FollowedRuns",
    "FreezeLook",
    "Freezes",
    "FunctionAnswer",
    "GivenAnswer",
    "GuardedChange",
    "HealthCheck",
    "HealthReader",
    "HealthRecords",
    "HealthSample",
    "HealthSettings",
    "KnownCauses",
    "Leases",
    "Ledger",
    "LoggedIn",
    "LoginSessions",
    "Marked",
    "Page",
    "Proofs",
    "Query",
    "Rehearsal",
    "Runs",
    "ScheduleLook",
    "Schedules",
    "Session",
    "Store",
    "Survey",
    "UniqueIndex",
    "Validator",
    "Watching",
    "Write",
    "Written",
]

_PLACES = {
    name: place
    for place, names in {
        "answers": "Answers GivenAnswer",
        "batches": "Batches",
        "broker": "Broker Delivery Feed",
        "changes": "Change Changes",
        "documents": "CutPoints Documents GuardedChange Write Written",
        "examiner": "Examiner Marked",
        "failures": "Failures",
        "followed_runs": "FollowedRuns",
        "freezes": "FreezeLook Freezes",
        "health": "HealthCheck HealthReader HealthRecords HealthSample HealthSettings Watching",
        "known_causes": "KnownCauses",
        "leases": "Leases",
        "ledger": "Ledger",
        "page": "Page",
        "proofs": "Proofs",
        "rehearsal": "FunctionAnswer Caller Callers Choice Clash Rehearsal UniqueIndex Validator",
        "runs": "Runs",
        "schedules": "Decision ScheduleLook Schedules",
        "sessions": "LoggedIn LoginSessions",
        "store": "Ahead Session Store",
        "survey": "Query Survey",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> object:
    """Imports a port when it is first used: a command that only reads needs the ledger's alone."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    port = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    return port
