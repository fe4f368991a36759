"""Explains how to use the samples over HTTP, with an example of each request."""

from dataclasses import dataclass, field
from typing import Any

MOST = 10_000_000  # sample documents in one request
MOST_RUNS = 10_000
LONG = 100_000  # documents above which a seeding goes on after its answer
CONFIRM = "DELETE_ALL_DATA"


@dataclass(frozen=True, slots=True)
class Example:
    """One request."""

    method: str
    path: str
    scope: str
    does: str
    body: dict[str, Any] | None = None
    answers: dict[str, str] = field(default_factory=dict)


_SEEDED = {
    "201": "the documents are in",
    "202": f"above {LONG:,} documents: it goes on; GET /seed/stats shows how far it is",
    "409": "this process seeds already, or a run works on the documents that `clearExisting` would delete",
}
EXAMPLES = (
    Example(
        "POST", "/seed/some-model", "operate",
        "Insert sample documents into the collection somemodels. The same seed gives the same documents. `invalidRatio` is the share that "
        "the migration some-model cannot migrate. `clearExisting` needs the scope admin.",
        {"count": 5000, "batchSize": 1000, "status": "mixed", "invalidRatio": 0.001, "seed": 42, "clearExisting": False}, _SEEDED,
    ),
    Example("POST", "/seed/bulk/1000000", "operate", "The same, the number in the path.", {"status": "pending"}, _SEEDED),
    Example(
        "POST", "/seed/job-status", "operate",
        "Put sample runs that have come to rest into the ledger: completed, completed_with_failures, paused, cancelled, failed. Nothing "
        "works on them, and nothing can resume them.",
        {"count": 100}, {"201": "the runs are in"},
    ),
    Example(
        "POST", "/seed/all", "operate", "Both.", {"someModelCount": 1000, "jobStatusCount": 100, "batchSize": 1000, "clearExisting": False},
        _SEEDED,
    ),
    Example("GET", "/seed/stats", "read", "How many samples there are by status, and how far a seeding is.", None, {"200": "the numbers"}),
    Example(
        "DELETE", "/seed/clear", "admin",
        "Delete the sample documents and the sample runs, nothing else. A seeding of this process is stopped first.",
        {"confirm": CONFIRM},
        {"200": "how many there were", "400": "the confirmation is missing", "409": "a run works on somemodels: cancel it first"},
    ),
    Example("POST", "/migrate", "operate", "Migrate what is pending of it.", {"migration": "some-model"}, {"202": "the run was started"}),
)  # fmt: skip
