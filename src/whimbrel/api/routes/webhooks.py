"""Shows the deliveries of webhooks, sends failed ones again, and sends a test."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field

from whimbrel.api.authorization import Operator, Reader
from whimbrel.api.deployment import Deployment, ThisSystem
from whimbrel.api.models.envelope import Answer, Model, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.routes.runs import Limit
from whimbrel.bootstrap import poster
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.webhooks.deliveries import DeliveryState
from whimbrel.engine.notifying.resending import send_again
from whimbrel.engine.notifying.trial import try_webhooks
from whimbrel.engine.operating.delivery_view import delivery_object

router = APIRouter(prefix="/webhooks", tags=["webhooks"])

EVENT = f"{RUN}:3"
RECEIVER = "https://hooks.example.org"
State = Literal["pending", "delivered", "failed"]
MOMENT = "2026-12-31T14:02:00.000Z"


class Delivered(Model):
    """One event on its way to one receiver."""

    id: str = Field(description="of the delivery", examples=[f"{EVENT}:0a1b2c3d"])
    event_id: str = Field(
        description="of the event: the same for each receiver and each try", examples=[EVENT]
    )
    event: str = Field(description="what happened", examples=["run.paused"])
    migration_id: str = Field(description="id of the run", examples=[RUN])
    receiver: str = Field(description="where it goes, without path and query", examples=[RECEIVER])
    receiver_key: str = Field(description="tells receivers of one host apart", examples=["0a1b2c3d"])
    state: State = Field(description="failed: its tries are used up", examples=["delivered"])
    tries: int = Field(description="so far", examples=[1])
    most_tries: int = Field(description="after which it has failed", examples=[5])
    answered: int | None = Field(description="the last answer's status; null: there was none", examples=[204])
    problem: str | None = Field(description="why the last try failed", examples=[None])
    created_at: str | None = Field(description="when it was stored", examples=[MOMENT])
    next_try_at: str | None = Field(description="when it is due; null: it has ended", examples=[None])
    ended_at: str | None = Field(description="when it was delivered, or has failed", examples=[MOMENT])


class Deliveries(Answer):
    """Deliveries, newest first."""

    count: int = Field(description="of this page", examples=[1])
    deliveries: list[Delivered] = Field(description="without what was sent")
    next_cursor: str | None = Field(
        default=None, description="for the next page; null on the last", examples=[None]
    )


class Resent(Answer):
    """The delivery is due again."""

    delivery: Delivered = Field(description="as it is now")


class WebhookTried(Model):
    """How the test ended with one receiver."""

    receiver: str = Field(description="where it went, without path and query", examples=[RECEIVER])
    receiver_key: str = Field(description="tells receivers of one host apart", examples=["0a1b2c3d"])
    delivered: bool = Field(description="whether it answered 200 to 299", examples=[True])
    answered: int | None = Field(description="the status; null: there was no answer", examples=[204])
    problem: str | None = Field(description="why it was not delivered", examples=[None])


class WebhooksTried(Answer):
    """How the test ended."""

    results: list[WebhookTried] = Field(description="by receiver")


@router.get("/deliveries", responses=failures(422))
def deliveries(
    deployment: Deployment,
    _: Reader,
    state: Annotated[State | None, Query(description="only those in this state", examples=["failed"])] = None,
    limit: Limit = 100,
    cursor: Annotated[
        str | None, Query(max_length=3000, description="`nextCursor` of the page before", examples=[None])
    ] = None,
) -> Deliveries:
    """The deliveries of webhooks, newest first: those that are pending, and the last of those that have ended."""
    rows = deployment.store.ledger.webhooks.list(
        states=None if state is None else [DeliveryState(state)], after=None if cursor is None else RunPlace.of(cursor), limit=limit
    )  # fmt: skip
    place = rows[-1].place if len(rows) == limit else None
    return Deliveries(
        count=len(rows), deliveries=[Delivered.model_validate(delivery_object(row)) for row in rows],
        next_cursor=None if place is None else place.cursor,
    )  # fmt: skip


@router.post("/test", responses=failures(400, 409, 413, 415))
def test(system: ThisSystem, caller: Operator) -> WebhooksTried:
    """Send a test event to every address of `WHIMBREL_WEBHOOKS` of this process now, once. Nothing is stored."""
    tried = try_webhooks(system.settings.webhooks, poster(system.settings), who=caller.who)
    return WebhooksTried(results=[WebhookTried.model_validate(each.as_object) for each in tried])


@router.post(
    "/deliveries/{delivery}/resend", status_code=202, responses=failures(400, 404, 409, 413, 415, 422)
)
def resend(
    system: ThisSystem,
    caller: Operator,
    delivery_id: Annotated[
        str,
        Path(
            alias="delivery", max_length=300, description="id of the delivery", examples=[f"{EVENT}:0a1b2c3d"]
        ),
    ],
) -> Resent:
    """Send a delivery that has failed once more: at once, with all its tries. Its event keeps its id, by which a receiver knows it. Audited."""
    again = send_again(system.deployment.store.ledger, system.settings.webhooks, delivery_id, who=caller.who)
    return Resent(delivery=Delivered.model_validate(delivery_object(again)))
