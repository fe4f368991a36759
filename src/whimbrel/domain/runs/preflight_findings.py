"""What preflight finds before a run starts: errors that refuse it, warnings that ask, and checks that could not be done."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from whimbrel.domain.bson.document_ids import relaxed
from whimbrel.errors import (
    CollectionUnsuitable,
    DefinitionInvalid,
    DependencyIncomplete,
    FilterRefused,
    WarningsRefused,
    WhimbrelError,
)

Level = Literal["error", "warning", "unknown", "info"]


class CheckName(StrEnum):
    """The checks. docs/preflight.md has a row for each."""

    COLLECTION = "collection"
    SHARD = "shard"
    FILTER = "filter"
    UPDATE = "update"
    ID = "id"
    ANSWER = "answer"
    TIMES = "times"
    VALUES = "values"
    COLLATION = "collation"
    MARK = "mark"
    VALIDATOR = "validator"
    INDEX = "index"
    UNIQUE_INDEX = "unique-index"
    TTL_INDEX = "ttl-index"
    SAMPLE = "sample"
    SIZE = "size"
    PARENT = "parent"
    OPLOG = "oplog"
    DISK = "disk"
    REPLICA_SET = "replica-set"
    MEMBERS = "members"
    CLOCK = "clock"
    RUNS = "runs"
    CHANGE_STREAMS = "change-streams"
    DEPENDENCIES = "dependencies"
    HEALTH = "health"
    FOLLOW = "follow"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that preflight found.

    `level`: an "error" refuses the run; a "warning" asks a person, or is recorded; "unknown" says that a check could
    not be done; "info" asks nothing, and is shown and recorded alone. `reason` and `remedy` are sentences; `detail` is for machines, JSON values only.
    """

    check: str
    level: Level
    reason: str
    remedy: str
    detail: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def sentence(self) -> str:
        return f"{self.reason} {self.remedy}"


def error(check: CheckName, reason: str, remedy: str, **detail: Any) -> Finding:
    return Finding(str(check), "error", reason, remedy, _plain(detail))


def warning(check: CheckName, reason: str, remedy: str, **detail: Any) -> Finding:
    return Finding(str(check), "warning", reason, remedy, _plain(detail))


def unknown(check: CheckName, reason: str, remedy: str, **detail: Any) -> Finding:
    return Finding(str(check), "unknown", reason, remedy, _plain(detail))


def information(check: CheckName, reason: str, remedy: str, **detail: Any) -> Finding:
    return Finding(str(check), "info", reason, remedy, _plain(detail))


def _plain(detail: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns values of MongoDB as relaxed Extended JSON."""
    if not detail:
        return None
    plain: dict[str, Any] = relaxed(detail)
    return plain


def finding_object(finding: Finding) -> dict[str, Any]:
    """Returns a finding in JSON: for the REST API, for `--json`, and for a run's row."""
    detail = None if finding.detail is None else dict(finding.detail)
    return {
        "check": finding.check,
        "level": finding.level,
        "reason": finding.reason,
        "remedy": finding.remedy,
        "detail": detail,
    }


def finding_of(finding: Mapping[str, Any]) -> Finding:
    """Reads what `finding_object` returned."""
    return Finding(
        finding["check"], finding["level"], finding["reason"], finding["remedy"], finding.get("detail")
    )


_REFUSALS: dict[str, type[WhimbrelError]] = {
    CheckName.FILTER: FilterRefused,
    CheckName.UPDATE: DefinitionInvalid,
    CheckName.ID: DefinitionInvalid,
    CheckName.ANSWER: DefinitionInvalid,
    CheckName.DEPENDENCIES: DependencyIncomplete,
}


def refusal(findings: Iterable[Finding]) -> WhimbrelError | None:
    """Returns the first error among findings as an exception: FilterRefused, DefinitionInvalid, DependencyIncomplete or CollectionUnsuitable."""
    first = next((finding for finding in findings if finding.level == "error"), None)
    return None if first is None else _REFUSALS.get(first.check, CollectionUnsuitable)(first.sentence)


def refuse(findings: Iterable[Finding]) -> None:
    """Raises `refusal`, if there is one."""
    error = refusal(findings)
    if error is not None:
        raise error


def refuse_all(findings: Iterable[Finding]) -> None:
    """Does the same as `refuse`, and treats warnings as errors. Raises WarningsRefused that names each."""
    listed = [finding for finding in findings if finding.level != "info"]
    refuse(listed)
    if listed:
        sentences = " ".join(f"[{finding.check}] {finding.reason}" for finding in listed)
        raise WarningsRefused(
            f"Not started, for warnings count as errors here (strict): {sentences} Mend them, or start without strict."
        )
