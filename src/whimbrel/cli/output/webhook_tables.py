"""Builds the tables of webhooks."""

from collections.abc import Sequence

from whimbrel.cli.output.fact_tables import FactTable
from whimbrel.cli.output.terminal_text import Text, local_time
from whimbrel.domain.webhooks.deliveries import TRIES, Delivery, DeliveryState, Tried

COLOURS = {DeliveryState.DELIVERED: "green", DeliveryState.PENDING: "yellow", DeliveryState.FAILED: "red"}
COLUMNS = ("event", "id", "to", "state", "tries", "created", "next try", "why not")


def deliveries_table(deliveries: Sequence[Delivery]) -> FactTable:
    """Builds the table of deliveries, newest first."""
    table = FactTable(COLUMNS, right=("tries",), whole=("state",))
    for delivery in deliveries:
        table.add(
            delivery.type, delivery.event, delivery.shown, Text(str(delivery.state), COLOURS[delivery.state]), f"{delivery.tries} of {TRIES}",
            local_time(delivery.created_at), local_time(delivery.due_at), delivery.problem,
        )  # fmt: skip
    return table


def trials_table(tried: Sequence[Tried]) -> FactTable:
    """Builds the table of a test."""
    table = FactTable(("to", "delivered", "answered", "why not"), whole=("delivered",))
    for each in tried:
        good = each.reply.delivered
        answered = "" if each.reply.status is None else str(each.reply.status)
        table.add(
            each.receiver.shown,
            Text("yes" if good else "no", "green" if good else "red"),
            answered,
            each.reply.problem,
        )
    return table
