"""What an administrator sees and does: counts that are true now, purges, peeks, connections closed."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import quote

from tests.servers.processes import ServerFailed

_HTTP_SECONDS: Final = 20.0
_VERSION: Final = (
    '[list_to_integer(Part) || Part <- lists:sublist(string:tokens(rabbit_misc:version(), "."), 2)]'
)
# Asked of the queues themselves: the management plugin's own counts are up to five seconds old. A quorum queue counts
# an unacknowledged basic.get as a consumer, one without a user. From 4.3 on it is asked by module, function and arguments.
_QUEUES: Final = (
    f"Overview = case {_VERSION} >= [4, 3] of"
    " true -> {rabbit_fifo, overview, []}; false -> fun rabbit_fifo:overview/1 end,"
    """
    [try
        I = maps:from_list(rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged, arguments])),
        Type = amqqueue:get_type(Q),
        O = case Type of
            rabbit_quorum_queue ->
                {ok, {_, Now}, _} = ra:leader_query(amqqueue:get_pid(Q), Overview),
                Now;
            _ -> #{}
        end,
        Consumers = [C || C <- rabbit_amqqueue:consumers(Q), element(tuple_size(C), C) =/= undefined],
        #{
            name => element(4, amqqueue:get_name(Q)), type => Type, consumers => length(Consumers),
            ready => maps:get(num_ready_messages, O, maps:get(messages_ready, I)),
            unacked => maps:get(num_checked_out, O, maps:get(messages_unacknowledged, I)),
            arguments => rabbit_mgmt_format:amqp_table(maps:get(arguments, I))
        }
    catch _:_ -> null end || Q <- rabbit_amqqueue:list()]
"""
)
# Its name until 4.0, and since.
_LOCAL: Final = (
    "(case erlang:function_exported(rabbit_networking, local_connections, 0) of"
    " true -> rabbit_networking:local_connections(); false -> rabbit_networking:connections_local() end)"
)
_CONNECTIONS: Final = (
    """
    [#{name => proplists:get_value(name, C), state => proplists:get_value(state, C),
       channels => proplists:get_value(channels, C), peer_port => proplists:get_value(peer_port, C),
       client_properties => rabbit_mgmt_format:amqp_table(proplists:get_value(client_properties, C))}
     || P <- """
    + _LOCAL
    + """,
        C <- [try rabbit_networking:connection_info(P,
                [name, state, channels, peer_port, client_properties]) catch _:_ -> [] end], C =/= []]
"""
)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it is now: messages ready and unacknowledged, consumers, "classic" or "quorum", x-arguments as they were declared."""

    ready: int
    unacked: int
    consumers: int
    type: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it lies in a queue."""

    payload: bytes
    headers: dict[str, Any]
    properties: dict[str, Any]
    redelivered: bool


class Management:
    """Of one node; for the virtual host "/"."""

    def __init__(self, port: int) -> None:
        self._http = f"http://127.0.0.1:{port}/api"

    def ask(self, expression: str) -> Any:
        """The value of an Erlang expression on the node, as JSON has it."""
        raise NotImplementedError

    def queues(self) -> dict[str, Queue]:
        """By name. A queue whose leader does not answer is left out."""
        found = [row for row in self.ask(_QUEUES) if row is not None]
        return {
            row["name"]: Queue(
                row["ready"],
                row["unacked"],
                row["consumers"],
                row["type"].removeprefix("rabbit_").removesuffix("_queue"),
                # Since 4.0 the server adds its type to a classic queue.
                {name: value for name, value in dict(row["arguments"]).items() if value != "classic"},
            )
            for row in found
        }

    def purge(self, name: str) -> None:
        """Deletes what is ready; what is unacknowledged stays."""
        self._call("DELETE", f"queues/%2F/{quote(name, safe='')}/contents")

    def delete_queue(self, name: str) -> None:
        """With its messages, under its consumers."""
        self._call("DELETE", f"queues/%2F/{quote(name, safe='')}")

    def get_messages(self, name: str, count: int = 100) -> list[Message]:
        """The first messages, which stay there, but count as delivered once more (x-delivery-count)."""
        query = {"count": count, "ackmode": "ack_requeue_true", "encoding": "base64"}
        return [
            Message(
                base64.b64decode(row["payload"]),
                dict(row["properties"].get("headers") or {}),
                dict(row["properties"] or {}),
                bool(row["redelivered"]),
            )
            for row in self._call("POST", f"queues/%2F/{quote(name, safe='')}/get", query)
        ]

    def set_user(self, name: str, password: str) -> None:
        """A user who may do all that a client may, by this password from now on."""
        self._call("PUT", f"users/{quote(name)}", {"password": password, "tags": ""})
        allowed = {"configure": ".*", "write": ".*", "read": ".*"}
        self._call("PUT", f"permissions/%2F/{quote(name)}", allowed)

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor of the server's version."""
        major, minor = self.ask(_VERSION)
        return major, minor

    @contextmanager
    def consumer_timeout(self, milliseconds: int) -> Iterator[None]:
        """While entered, whoever takes a message has so long to acknowledge it.

        From 3.12 on a queue's own argument is stronger than the node's setting; of it and a policy the smaller holds.
        """
        by_policy = self.version >= (3, 12)
        limits = "application:set_env(rabbit, consumer_timeout, {}), application:set_env(rabbit, channel_tick_interval, {}), true"
        self.ask(limits.format(milliseconds, 300))
        if by_policy:
            self.ask(
                'ok = rabbit_policy:set(<<"/">>, <<"impatient">>, <<"^app">>,'
                f' [{{<<"consumer-timeout">>, {milliseconds}}}], 0, <<"queues">>, <<"test">>), true'
            )
        try:
            yield
        finally:
            self.ask(limits.format(1_800_000, 60_000))
            if by_policy:
                self.ask('ok = rabbit_policy:delete(<<"/">>, <<"impatient">>, <<"test">>), true')

    def connections(self) -> list[dict[str, Any]]:
        """Of this node: name, state, channels, peer_port, client_properties."""
        return list(self.ask(_CONNECTIONS))

    def close_connections(self, reason: str = "closed by a test") -> int:
        """Tells all clients of this node to go (320, CONNECTION_FORCED); how many there were."""
        text = json.dumps(reason, ensure_ascii=True)
        return int(
            self.ask(f"L = {_LOCAL}, [rabbit_networking:close_connection(P, {text}) || P <- L], length(L)")
        )

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 (http on loopback)
            f"{self._http}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(),
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=_HTTP_SECONDS) as answer:  # noqa: S310
                said = answer.read()
        except (URLError, OSError) as error:
            raise ServerFailed(f"{method} {path}: {error}") from error
        return json.loads(said) if said else None
