"""Deliveries come at least once, are tried five times, and no receiver holds up another, a run, or the end of a process."""

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.in_process_system import start, system
from tests.integration.in_process_system import until as run_until
from tests.integration.notifying.conftest import sender
from tests.integration.notifying.test_events import INC, things
from tests.servers.receiver import Receiver, receiving
from tests.waiting import until
from whimbrel.domain.runs.audit import AuditQuery
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.webhooks.deliveries import Delivery, DeliveryState
from whimbrel.engine.notifying.resending import send_again
from whimbrel.engine.notifying.sender import WebhookSender
from whimbrel.engine.operating import control
from whimbrel.errors import DeliveryUnknown, StateForbids
from whimbrel.mongo.ledger import webhooks as webhook_rows
from whimbrel.mongo.store import MongoStore


def all_due(store: MongoStore) -> None:
    """Lets time pass for what is pending."""
    rows = store.client[store.database]["whimbrel_deliveries"]
    rows.update_many({"state": "pending"}, [{"$set": {"dueAt": "$$NOW"}}])


def sent(it: WebhookSender) -> None:
    """A round, and its requests answered."""
    it.round()
    until(lambda: not it._alive())


def the_only(store: MongoStore) -> Delivery:
    (found,) = store.ledger.webhooks.list()
    return found


def check_next_try(store: MongoStore, seconds: float, began: float) -> None:
    """It is due so many seconds after the last one, which came after `began`: however late this looks, by the server's clock."""
    (row,) = store.client[store.database]["whimbrel_deliveries"].aggregate(
        [{"$match": {"state": "pending"}}, {"$set": {"in": {"$subtract": ["$dueAt", "$$NOW"]}}}]
    )
    left = float(row["in"]) / 1000
    assert left <= seconds <= left + time.monotonic() - began + 0.1


def test_a_receiver_that_is_down_for_a_while_gets_the_same_event_later(
    store: MongoStore, receiver: Receiver
) -> None:
    things(store)
    run, it = start(store, INC), sender(store, receiver)
    receiver.answers = [500, 302]
    receiver.headers = {"Location": "http://127.0.0.1:9/elsewhere"}
    began = time.monotonic()
    sent(it)
    first = the_only(store)
    assert (first.state, first.tries, first.status, first.problem) == ("pending", 1, 500, "It answered 500.")
    check_next_try(store, 10, began)
    all_due(store)
    began = time.monotonic()
    sent(it)
    assert "redirects are not followed" in the_only(store).problem
    check_next_try(store, 60, began)
    all_due(store)
    sent(it)
    last = the_only(store)
    assert (last.state, last.tries, last.status, last.problem, last.due_at) == ("delivered", 3, 204, "", None)
    assert receiver.ids == [f"{run.id}:1"] * 3
    assert len({request.body for request in receiver.requests}) == 1
    found = store.ledger.webhooks.counts()
    assert (found.tries, found.delivered, found.failed, found.pending) == (3, 1, 0, 0)


def test_after_five_tries_it_has_failed_and_is_shown(store: MongoStore, receiver: Receiver) -> None:
    things(store)
    start(store, INC)
    it, receiver.answers = sender(store, receiver), [503] * 9
    for seconds in (10, 60, 600, 3600, None):
        all_due(store)
        began = time.monotonic()
        sent(it)
        assert (the_only(store).state is DeliveryState.PENDING) is (seconds is not None)
        if seconds is not None:
            check_next_try(store, seconds, began)
    last = the_only(store)
    assert (last.state, last.tries, last.problem) == ("failed", 5, "It answered 503.")
    sent(it)
    assert len(receiver.requests) == 5
    assert [each.id for each in store.ledger.webhooks.list(states=[DeliveryState.FAILED])] == [last.id]
    assert store.ledger.webhooks.list(states=[DeliveryState.PENDING]) == []
    assert store.ledger.webhooks.counts().failed == 1
    _sent_again(store, receiver, last, it)


def _sent_again(store: MongoStore, receiver: Receiver, failed: Delivery, it: WebhookSender) -> None:
    ledger, webhooks = store.ledger, it._webhooks
    gone = replace(webhooks, receivers=())
    for given, name, error, words in (
        (None, failed.id, StateForbids, "No webhooks are set"),
        (webhooks, "none", DeliveryUnknown, "no delivery 'none'"),
        (webhooks, "counts", DeliveryUnknown, "no delivery"),
        (gone, failed.id, StateForbids, "not among WHIMBREL_WEBHOOKS"),
    ):
        with pytest.raises(error, match=words):
            send_again(ledger, given, name, who="api:anna@host")
    assert the_only(store) == failed
    receiver.answers = []
    again = send_again(ledger, webhooks, failed.id, who="api:anna@host")
    assert (again.id, again.state, again.tries, again.ended_at) == (failed.id, "pending", 0, None)
    sent(it)
    assert (the_only(store).state, the_only(store).tries) == ("delivered", 1)
    assert receiver.ids == [failed.event] * 6
    with pytest.raises(StateForbids, match="is delivered: only one that has failed"):
        send_again(ledger, webhooks, failed.id, who="api:anna@host")
    (entry,) = ledger.audit.list(AuditQuery(actions=["webhooks"]))
    assert (entry.what, entry.who, entry.run) == (
        f"webhook delivery {failed.id} sent again",
        "api:anna@host",
        failed.run,
    )


def test_a_receiver_that_hangs_holds_up_nobody(store: MongoStore, receiver: Receiver) -> None:
    receiver.hanging = threading.Event()
    things(store)
    with receiving() as other, system(store, [INC]):
        it = sender(store, receiver, other)
        run = start(store, INC)
        it.round()
        assert receiver.arrived.wait(60)
        assert run_until(store, run).counts.changed == 10  # the run, while the receiver hangs
        it.round()
        until(lambda: "run.completed" in other.events)
        assert len(receiver.requests) == 1
        it.finish(0.0)  # a process that ends does not wait for it either
        receiver.hanging.set()


def test_one_process_sends_and_another_goes_on_when_it_is_gone(store: MongoStore, receiver: Receiver) -> None:
    things(store)
    one, two = sender(store, receiver), sender(store, receiver, name="two")
    one.round()
    run = start(store, INC)
    two.round()
    two.finish(60)
    assert receiver.requests == []
    sent(one)
    assert receiver.ids == [f"{run.id}:1"]
    store.ledger.leases.step_down("one")
    control.pause(store.ledger, run.id, who="test")
    three = sender(store, receiver, name="three")
    sent(three)
    assert receiver.ids == [f"{run.id}:1", f"{run.id}:2"]


def test_a_try_that_was_broken_off_is_made_again_and_the_last_is_recorded(
    store: MongoStore, receiver: Receiver
) -> None:
    things(store)
    run, records = start(store, INC), store.ledger.webhooks
    it = sender(store, receiver)
    receiver.hanging = threading.Event()
    it.round()
    assert receiver.arrived.wait(60)
    it.finish(0.0)  # killed while the request is under way, as far as the ledger knows
    receiver.hanging.set()
    until(lambda: not it._alive())
    store.client[store.database]["whimbrel_deliveries"].update_one(
        {"run": run.id}, {"$set": {"state": "pending", "tries": 5, "problem": "", "endedAt": None}}
    )
    all_due(store)
    assert records.give_up([the_only(store).receiver]) == 1
    assert (the_only(store).state, the_only(store).problem) == (
        "failed",
        "The process that sent it ended within the last try.",
    )


def test_a_delivery_to_an_address_that_was_taken_away_ends(store: MongoStore, receiver: Receiver) -> None:
    things(store)
    start(store, INC)
    receiver.answers = [500]
    sent(sender(store, receiver))
    store.ledger.leases.step_down("one")
    with receiving() as other:
        sent(sender(store, other, name="two"))
        assert other.requests == []
    assert (the_only(store).state, the_only(store).tries) == ("failed", 1)
    assert "not among WHIMBREL_WEBHOOKS any more" in the_only(store).problem


def test_the_list_has_pages_and_no_secret(store: MongoStore, receiver: Receiver) -> None:
    things(store)
    run = start(store, INC)
    for _ in range(2):
        control.pause(store.ledger, run.id, who="test")
        control.resume(store.ledger, run.id, who="test")
    sent(sender(store, receiver))
    ids, place = [], None
    while page := store.ledger.webhooks.list(limit=2, after=place):
        ids += [each.id for each in page]
        place = RunPlace.of(page[-1].place.cursor) if page[-1].place else None
    assert sorted(ids) == sorted(each.id for each in store.ledger.webhooks.list())
    assert len(ids) == len(set(ids)) == 5
    rows: list[dict[str, Any]] = list(store.client[store.database]["whimbrel_deliveries"].find({}))
    assert "of=tests" not in str(rows)


def test_ended_deliveries_go_and_pending_ones_stay(
    store: MongoStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    things(store)
    run = start(store, INC)
    for _ in range(3):
        control.pause(store.ledger, run.id, who="test")
        control.resume(store.ledger, run.id, who="test")
    receiver.answers = [500]
    sent(sender(store, receiver))
    monkeypatch.setattr(webhook_rows, "MOST", 2)
    removed = store.ledger.webhooks.trim()
    rows = store.ledger.webhooks.list()
    assert removed + len(rows) == 7
    assert sum(each.state is DeliveryState.PENDING for each in rows) == 1
    (lifetime,) = [
        each["expireAfterSeconds"]
        for each in store.client[store.database]["whimbrel_deliveries"].index_information().values()
        if "expireAfterSeconds" in each
    ]
    assert lifetime == 7 * 86_400
