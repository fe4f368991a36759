"""What the use cases need from the outside. Each method's docstring is the guarantee that its tests test.

Every method may raise Transient (will pass by itself) and Systemic (a person must look).
"""

from whimbrel.ports.broker import Broker, Delivery, Feed
from whimbrel.ports.documents import Cuts, Documents, Guarded, Page, Query, Write, Written
from whimbrel.ports.ledger import Batches, Failures, Leases, Ledger, Runs
from whimbrel.ports.store import Session, Store

__all__ = [
    "Batches",
    "Broker",
    "Cuts",
    "Delivery",
    "Documents",
    "Failures",
    "Feed",
    "Guarded",
    "Leases",
    "Ledger",
    "Page",
    "Query",
    "Runs",
    "Session",
    "Store",
    "Write",
    "Written",
]
