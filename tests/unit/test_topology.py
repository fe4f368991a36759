"""The table of exchanges and queues, for every version of the server; and what a message may hold."""

import pytest

from whimbrel.brokers.rabbitmq.addresses import urls_of
from whimbrel.brokers.rabbitmq.pointers import NotOursError, decode, encode
from whimbrel.brokers.rabbitmq.topology import (
    DEAD_LETTER_QUEUE,
    LANES,
    generations,
    lanes,
    mismatch,
    version_of,
)
from whimbrel.brokers.rabbitmq.turns import HEADER, headers_after_return, return_count
from whimbrel.domain.runs.batches import Batch
from whimbrel.errors import BrokerRefused, SettingsInvalid

OLD = {"x-queue-type", "x-max-length", "x-overflow", "x-delivery-limit", "x-dead-letter-exchange"}
NEW = OLD | {"x-consumer-timeout"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3.10.8", [OLD]),
        ("3.11.28", [OLD]),
        ("3.12.0", [NEW, OLD]),
        ("3.13.7", [NEW, OLD]),
        ("4.0.5", [NEW, OLD]),
        ("4.1.0-rc.1", [NEW, OLD]),
        ("4.3.2", [NEW, OLD]),
        ("5.0.0", [NEW, OLD]),
    ],
)
def test_the_arguments_of_a_queue_follow_the_servers_version(text: str, wanted: list[set[str]]) -> None:
    """What an older server's rules made is accepted after the server's upgrade."""
    found = generations(version_of(text))
    assert [set(each) for each in found] == wanted
    assert all(each["x-queue-type"] == "quorum" and each["x-overflow"] == "reject-publish" for each in found)


@pytest.mark.parametrize("text", ["3.9.29", "3.8.0", "2.8", "", "unknown"])
def test_a_server_that_is_too_old_is_refused(text: str) -> None:
    with pytest.raises(BrokerRefused, match=r"3\.10"):
        version_of(text)


def test_no_argument_that_a_server_of_its_version_does_not_know() -> None:
    """`x-consumer-timeout` came with 3.12; priorities and lazy queues are not for quorum queues at all."""
    for version in [(3, 10), (3, 11)]:
        assert "x-consumer-timeout" not in generations(version)[0]
    for version in [(3, 10), (3, 13), (4, 0), (4, 3)]:
        assert not {"x-max-priority", "x-queue-mode", "x-message-ttl"} & generations(version)[0].keys()


def test_the_names_are_those_of_the_contract() -> None:
    assert {lane.name: lane.queue for lane in LANES} == {
        "processing": "app.processing.queue",
        "priority": "app.priority.queue",
        "retry": "app.retry.queue",
    }
    assert DEAD_LETTER_QUEUE == "app.deadletter.queue"
    assert len({lane.key for lane in LANES}) == len(LANES)
    assert [lane.name for lane in lanes(["processing", "priority"])] == ["priority", "processing"]


def test_a_mismatch_names_the_queue_the_argument_both_values_and_the_way_out() -> None:
    reply = (
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'app.processing.queue' in vhost '/': "
        "received the value '10000' of type 'signedint' but current is the value '5' of type 'long'"
    )
    said = str(mismatch("app.processing.queue", reply))
    for part in ("'app.processing.queue'", "x-max-length", "is 5 on", "needs 10000", "delete_queue"):
        assert part in said
    reply = "inequivalent arg 'x-overflow' for queue 'q': received the value 'a' of type 'longstr' but current is none"
    assert "is not set on the server" in str(mismatch("q", reply))
    assert "something else" in str(mismatch("q", "something else"))


def test_a_pointer_comes_back_as_the_batch_it_names() -> None:
    batch = Batch(run="20261124-abc234", seq=17, leg=0, phase="pending")
    assert decode(encode(batch)) == batch.token
    assert len(encode(batch)) < 100


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\x00rubbish", "not JSON"),
        (b"[" * 4000, "not JSON"),
        (b"5000 bytes" * 500, "5000 bytes"),
        (b"[]", "not a pointer"),
        (b'{"batch": "20261124-abc234.1"}', "not a pointer"),
        (b'{"v": 2, "batch": "20261124-abc234.1"}', "version 2"),
        (b'{"v": true, "batch": "20261124-abc234.1"}', "version"),
        (b'{"v": "1", "batch": "20261124-abc234.1"}', "version"),
        (b'{"v": 1}', "no name"),
        (b'{"v": 1, "batch": 7}', "no name"),
        (b'{"v": 1, "batch": "20261124-abc234.1; drop"}', "no name"),
        (b'{"v": 1, "batch": "20261124-abc234.-1"}', "no name"),
    ],
)
def test_what_is_no_pointer_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(NotOursError, match=why):
        decode(body)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("amqp://a/", ["amqp://a/"]),
        ("amqp://u:p@a:5672/v, amqps://u:p@b/v", ["amqp://u:p@a:5672/v", "amqps://u:p@b/v"]),
        ("amqp://u:S3C,RET@a/", ["amqp://u:S3C,RET@a/"]),
        ("amqp://u:p%40@a/%2Fv?heartbeat=5", ["amqp://u:p%40@a/%2Fv?heartbeat=5"]),
    ],
)
def test_addresses_are_parted_at_commas_before_an_address(text: str, wanted: list[str]) -> None:
    assert list(urls_of(text)) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "guest:S3CRET@host:5672",
        "http://guest:S3CRET@host/",
        "amqp://",
        "S3CRET",
        " , ",
        "amqp://u:S3CRET@:1/",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="RABBITMQ_URL") as caught:
        urls_of(text)
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "times"),
    [
        ({}, 0),
        ({"x-delivery-count": 7}, 7),  # up to 4.2, whatever brought it back
        (
            {"x-acquired-count": 7, "x-delivery-count": 3},
            7,
        ),  # from 4.3 on: what was only given back is in the first
        (
            {HEADER: 40, "x-delivery-count": 2},
            42,
        ),  # sent to the end of its lane, where the server counts anew
        ({HEADER: "40", "x-delivery-count": None}, 0),  # written by a stranger
        ({HEADER: -5, "x-delivery-count": True}, 0),
    ],
)
def test_how_often_a_pointer_was_turned_away(headers: dict[str, object], times: int) -> None:
    assert return_count(headers) == times
    assert headers_after_return({**headers, "x-other": "kept"}) == {"x-other": "kept", HEADER: times + 1}
