"""`webhooks`: show what was told to receivers of webhooks, send it again, or send them a test."""

from enum import StrEnum
from typing import Annotated

import typer

from whimbrel.bootstrap import check_reporting, poster
from whimbrel.cli.arguments.options import Json, Limit, begin, caller
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.screen import Screen
from whimbrel.cli.output.webhook_tables import deliveries_table, trials_table
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.webhooks.deliveries import DeliveryState
from whimbrel.engine.operating.delivery_view import delivery_object
from whimbrel.errors import SettingsInvalid
from whimbrel.settings import Settings

DeliveryIn = StrEnum("DeliveryIn", ["pending", "delivered", "failed"])
NOT_DELIVERED = 1  # exit code of a test that a receiver has not taken


def webhooks(
    test: Annotated[
        bool, typer.Option("--test", help="send a test to every address of WHIMBREL_WEBHOOKS now")
    ] = False,
    state: Annotated[
        DeliveryIn | None,
        typer.Option(metavar="STATE", help="only deliveries in this state: pending, delivered or failed"),
    ] = None,
    resend: Annotated[
        str | None,
        typer.Option(
            "--resend",
            metavar="DELIVERY",
            help="send a delivery that has failed once more, by its id in this list",
        ),
    ] = None,
    limit: Limit = 20,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="where an earlier page said that the next one begins")
    ] = None,
    json: Json = False,
) -> int:
    """Show the deliveries of webhooks, newest first, send a failed one again, or send a test.

    docs/observability.md says what is sent, and how a receiver verifies it.
    """
    settings, screen = begin(json=json)
    if test and (state is not None or cursor is not None):
        raise SettingsInvalid("--test sends and shows nothing else: leave --state and --cursor out.")
    if resend is not None and (test or state is not None or cursor is not None):
        raise SettingsInvalid(
            "--resend sends one delivery and shows nothing else: leave the other options out."
        )
    with Interrupts():
        if resend is not None:
            return _resend(settings, screen, resend)
        return _test(settings, screen) if test else _show(settings, screen, state, limit, cursor)


def _test(settings: Settings, screen: Screen) -> int:
    from whimbrel.engine.notifying.trial import try_webhooks  # noqa: PLC0415  lists need none of it

    check_reporting(settings)
    tried = try_webhooks(settings.webhooks, poster(settings), who=caller())
    if screen.json:
        screen.answer([each.as_object for each in tried])
    else:
        screen.show(trials_table(tried))
    return 0 if all(each.reply.delivered for each in tried) else NOT_DELIVERED


def _resend(settings: Settings, screen: Screen, delivery_id: str) -> int:
    from whimbrel.engine.notifying.resending import send_again  # noqa: PLC0415  lists need none of it

    check_reporting(settings)
    with open_database(settings, screen, answers=True) as system:
        again = send_again(system.store.ledger, settings.webhooks, delivery_id, who=caller())
    if screen.json:
        screen.answer(delivery_object(again))
    else:
        screen.show(
            f"Delivery {again.id} is due again: a process that has the webhooks sends it to {again.shown} at once."
        )
    return 0


def _show(
    settings: Settings, screen: Screen, state: DeliveryIn | None, limit: int, cursor: str | None
) -> int:
    with open_database(settings, screen, answers=True) as system:
        rows = system.store.ledger.webhooks.list(
            states=None if state is None else [DeliveryState(state.value)],
            after=None if cursor is None else RunPlace.of(cursor),
            limit=limit,
        )
    if screen.json:
        screen.answer([delivery_object(row) for row in rows])
    elif rows:
        screen.show(deliveries_table(rows))
    else:
        screen.show(
            "There are no such deliveries."
            if state or cursor
            else "Nothing was told by webhooks within the last days."
        )
    if len(rows) == limit and (place := rows[-1].place) is not None:
        screen.note(f"There may be more. Show them: --cursor {place.cursor}")
    return 0
