"""Sends a delivery again that has failed, for a person who has mended its receiver."""

from whimbrel.domain.webhooks.addresses import Webhooks
from whimbrel.domain.webhooks.deliveries import Delivery
from whimbrel.engine.notifying.trial import UNSET
from whimbrel.errors import DeliveryUnknown, StateForbids
from whimbrel.ports import Ledger


def send_again(ledger: Ledger, webhooks: Webhooks | None, delivery_id: str, *, who: str) -> Delivery:
    """Makes a failed delivery due now, with all its tries. Audited. Raises DeliveryUnknown; StateForbids where it has not failed, or has no receiver any more."""
    if webhooks is None:
        raise StateForbids(UNSET)
    known = ledger.webhooks.get(delivery_id)
    if known is None:
        raise DeliveryUnknown(
            f"There is no delivery {delivery_id[:100]!r}. List those that have failed: whimbrel webhooks --state failed, or GET /webhooks/deliveries?state=failed"
        )
    if known.receiver not in {receiver.key for receiver in webhooks.receivers}:
        raise StateForbids(
            f"Delivery {known.id} went to {known.shown}, which is not among WHIMBREL_WEBHOOKS any more: nobody would send it."
        )
    again = ledger.webhooks.send_again(delivery_id)
    if again is None:
        raise StateForbids(
            f"Delivery {known.id} is {known.state}: only one that has failed can be sent again."
        )
    ledger.leases.audit(f"webhook delivery {known.id} sent again", run=known.run, who=who)
    return again
