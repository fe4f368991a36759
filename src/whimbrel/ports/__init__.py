"""What the use cases need from the outside. Each method's docstring is the guarantee that its tests test.

Every method may raise Transient (will pass by itself) and Systemic (a person must look).
"""

from whimbrel.ports.answers import Answers, Given
from whimbrel.ports.batches import Batches
from whimbrel.ports.broker import Broker, Delivery, Feed
from whimbrel.ports.documents import Cuts, Documents, Guarded, Write, Written
from whimbrel.ports.examiner import Examiner, Marked
from whimbrel.ports.failures import Failures
from whimbrel.ports.leases import Leases
from whimbrel.ports.ledger import Ledger
from whimbrel.ports.page import Page
from whimbrel.ports.proofs import Proofs
from whimbrel.ports.rehearsal import (
    Answered,
    Caller,
    Callers,
    Choice,
    Clash,
    Rehearsal,
    UniqueIndex,
    Validator,
)
from whimbrel.ports.runs import Runs
from whimbrel.ports.schedules import Decision, Look, Schedules
from whimbrel.ports.store import Ahead, Session, Store
from whimbrel.ports.survey import Query, Survey

__all__ = [
    "Ahead",
    "Answered",
    "Answers",
    "Batches",
    "Broker",
    "Caller",
    "Callers",
    "Choice",
    "Clash",
    "Cuts",
    "Decision",
    "Delivery",
    "Documents",
    "Examiner",
    "Failures",
    "Feed",
    "Given",
    "Guarded",
    "Leases",
    "Ledger",
    "Look",
    "Marked",
    "Page",
    "Proofs",
    "Query",
    "Rehearsal",
    "Runs",
    "Schedules",
    "Session",
    "Store",
    "Survey",
    "UniqueIndex",
    "Validator",
    "Write",
    "Written",
]
