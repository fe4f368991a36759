"""Freezes: lets everything that writes or reads much wait, for the whole cluster."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Path
from pydantic import Field, StringConstraints

from whimbrel.api.authorization import Operator, Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.models.envelope import Answer, Model, failures
from whimbrel.domain.runs.freezes import LONGEST_NOTE, Freeze, FreezeRefused, same
from whimbrel.engine.operating.freezing import (
    add_freezes,
    freeze_object,
    freezes_object,
    lift_freezes,
    new_freeze_id,
)
from whimbrel.ports import FreezeLook, Ledger

router = APIRouter(prefix="/freeze", tags=["health"])
AT = "2026-12-20T00:00:00Z"
_DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
Moment = Annotated[str, StringConstraints(pattern=f"^{_DATE}T{_TIME}$", max_length=40)]
Note = Annotated[str, Field(max_length=LONGEST_NOTE, description="why: runs that wait say it")]


class NewFreeze(Model):
    """A freeze: all fields may be left out, then it is from now until somebody lifts it."""

    from_: Moment | None = Field(
        default=None, alias="from", description="when it begins: RFC 3339; null: now", examples=[AT]
    )
    until: Moment | None = Field(
        default=None,
        description="when it ends: RFC 3339; null: when it is lifted",
        examples=["2027-01-02T00:00:00Z"],
    )
    note: Note = Field(default="", examples=["peak season"])


class FreezeOf(Model):
    """A freeze."""

    id: str = Field(description="to lift it by", examples=["1f3a5c7e"])
    from_: str = Field(alias="from", description="when it begins", examples=["2026-12-20T00:00:00.000Z"])
    until: str | None = Field(
        description="when it ends; null: when it is lifted", examples=["2027-01-02T00:00:00.000Z"]
    )
    note: str = Field(description="why", examples=["peak season"])
    state: Literal["planned", "in force", "over"] = Field(
        description="ended ones are shown for a week", examples=["planned"]
    )
    by: str = Field(description="who made it", examples=["api:operate-1@10.0.0.7"])
    lifted_by: str | None = Field(description="who has lifted it", examples=[None])


class Frozen(Answer):
    """What is frozen, and what will be."""

    frozen: bool = Field(
        description="whether everything that writes or reads much waits now", examples=[False]
    )
    until: str | None = Field(
        description="until when; null: nothing is frozen, or until somebody lifts it", examples=[None]
    )
    note: str = Field(description="why; empty where nothing is frozen", examples=[""])
    freezes: list[FreezeOf] = Field(
        description="those in force, planned ones, and those that ended within a week"
    )


class FreezeMade(Frozen):
    """The freezes after one was made."""

    freeze: FreezeOf = Field(description="the one that was made, or was there already")


class FreezesLifted(Frozen):
    """The freezes after some were lifted."""

    lifted: list[FreezeOf] = Field(description="those that were lifted")


@router.get("", responses=failures())
def show(deployment: Deployment, _caller: Reader) -> Frozen:
    """Whether anything is frozen, and the freezes that are planned."""
    return Frozen(**freezes_object(deployment.store.ledger.freezes.look()))


@router.post("", status_code=201, responses=failures(400, 409, 413, 415, 422))
def freeze(
    deployment: Deployment, caller: Operator, body: Annotated[NewFreeze, Body(default_factory=NewFreeze)]
) -> FreezeMade:
    """Let everything that writes or reads much wait: now until it is lifted, or from one time to another. Audited."""
    ledger = deployment.store.ledger
    made: list[Freeze] = []

    def new(look: FreezeLook) -> Sequence[Freeze]:
        begins = look.now if body.from_ is None else _moment("from", body.from_)
        ends = None if body.until is None else _moment("until", body.until)
        made[:] = [Freeze(id=new_freeze_id(), begins=begins, ends=ends, note=body.note, by=caller.who)]
        return made

    deployment.store.prepare()
    add_freezes(ledger, new, who=caller.who)
    look = ledger.freezes.look()
    found, known = freezes_object(look), [freeze for freeze in look.freezes if same(freeze, made[0])]
    return FreezeMade(**found, freeze=FreezeOf(**freeze_object((known or made)[-1], look)))


@router.delete("", responses=failures())
def unfreeze(deployment: Deployment, caller: Operator) -> FreezesLifted:
    """Lift the freezes that are in force: runs go on by themselves. Planned ones stay. Audited."""
    return _lift(deployment.store.ledger, None, caller.who)


@router.delete("/{id}", responses=failures(404, 422))
def unfreeze_one(
    deployment: Deployment,
    caller: Operator,
    freeze_id: Annotated[
        str, Path(alias="id", max_length=40, description="id of a freeze", examples=["1f3a5c7e"])
    ],
) -> FreezesLifted:
    """Lift a freeze that is in force, or take back a planned one. Audited."""
    return _lift(deployment.store.ledger, [freeze_id], caller.who)


def _lift(ledger: Ledger, ids: Sequence[str] | None, who: str) -> FreezesLifted:
    lifted = {freeze.id for freeze in lift_freezes(ledger, ids, who=who)}
    found = freezes_object(ledger.freezes.look())
    return FreezesLifted(**found, lifted=[row for row in found["freezes"] if row["id"] in lifted])


def _moment(field: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise FreezeRefused(f"{field} {text}: there is no such time.") from error
