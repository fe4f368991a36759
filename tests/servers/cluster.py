"""Three RabbitMQ nodes as one broker: `with RabbitCluster() as cluster: ...`."""

import time
from collections.abc import Iterable
from typing import Final

from tests.servers.erlang import Erlang
from tests.servers.install import find_server
from tests.servers.processes import Started, pause
from tests.servers.rabbit import PLUGINS, START_SECONDS, RabbitNode

_RUNNING: Final = "length(rabbit_nodes:all_running())"


class RabbitCluster(Started):
    """Nodes that share one epmd and one cookie; quorum queues are possible. Raises ServerMissing, ServerFailed.

    `wipe` is not for its nodes: the others would not take back one that has forgotten them.
    """

    def __init__(self, size: int = 3, *, settings: Iterable[str] = ()) -> None:
        self.erlang = Erlang(find_server(), PLUGINS)
        self.nodes = [RabbitNode(settings=settings, erlang=self.erlang) for _ in range(size)]
        # The first is alone, and the others look for it: if all looked for all, the first to come would look in vain
        # for five seconds.
        for node in self.nodes[1:]:
            node.settings += [
                "cluster_formation.peer_discovery_backend = classic_config",
                f"cluster_formation.classic_config.nodes.1 = {self.nodes[0].name}",
            ]
        self._formed = False

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def start(self) -> None:
        """Starts the nodes that do not run, and waits until each sees all."""
        if not self._formed:
            self.nodes[0].start()
        self._formed = True
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait()
        self.wait()

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Until each node sees all the others."""
        deadline = time.monotonic() + seconds
        for node in self.nodes:
            while node.ask(_RUNNING) != len(self.nodes):
                pause(deadline, f"{node.name} does not see the whole cluster within {seconds:g} s")

    def leader(self, queue: str, seconds: float = START_SECONDS) -> RabbitNode:
        """The running node that leads a quorum queue, or hosts a classic one; waits for an election.

        Raises ServerFailed.
        """
        text = (
            f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)),'
            "case amqqueue:get_pid(Q) of {_, N} -> N; P -> node(P) end"
        )
        deadline = time.monotonic() + seconds
        while True:
            answering = {node.name: node for node in self.nodes if node.answering()}
            for node in answering.values():
                if found := answering.get(node.ask(text)):
                    return found
            pause(deadline, f"No running node leads {queue} within {seconds:g} s")

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self.erlang.close()
