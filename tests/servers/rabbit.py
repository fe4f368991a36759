"""A RabbitMQ node of our own, to be stopped, killed, frozen, emptied and asked: `with RabbitNode() as node: ...`."""

import secrets
import shutil
import socket
import time
from collections.abc import Iterable
from typing import Any, Final

from tests.servers.erlang import Erlang
from tests.servers.install import find_server
from tests.servers.management import Management
from tests.servers.processes import Child, ServerFailed, Started, free_ports, pause

PLUGINS: Final = ("rabbitmq_management",)
START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 20.0
_WATERMARK: Final = '{absolute, "1GB"}'
_DISK: Final = "10MB"
_NO_DISK: Final = "1000000GB"
_SETTINGS: Final = (
    f"disk_free_limit.absolute = {_DISK}",
    "vm_memory_high_watermark.absolute = 1GB",
    "collect_statistics_interval = 200",
    "raft.wal_max_size_bytes = 16777216",
    "log.file = false",
    "log.console = true",
    "log.console.level = info",
)
# Small tables, as the defaults are made for a million processes; one scheduler, as others measure beside us.
# Quorum queues tell their counts at each tick; a frozen neighbour is noticed within net_ticktime (seconds).
_MACHINE: Final = "+P 65536 +t 1048576 +sbwt none +sbwtdcpu none +sbwtdio none +S 1:1 -noinput"
_OPTIONS: Final = (
    "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false -kernel net_ticktime 5"
    " -rabbit quorum_tick_interval 200"
)
# The management plugin's listener waits 5 s for its own event queue when it is stopped from there.
_STOP: Final = (
    "[gen_event:delete_handler(rabbit_event, H, stop) || H <- gen_event:which_handlers(rabbit_event)],"
    "rabbit:stop(), spawn(fun() -> timer:sleep(20), erlang:halt(0) end), true"
)


class RabbitNode(Started, Management):
    """A node on free ports of 127.0.0.1, with the plugin rabbitmq_management, in a temporary folder.

    `settings` are more lines of rabbitmq.conf, such as "consumer_timeout = 2000" (milliseconds) or "heartbeat = 2".
    The ports stay the same over every restart. Raises ServerMissing, ServerFailed.
    """

    def __init__(self, *, settings: Iterable[str] = (), erlang: Erlang | None = None) -> None:
        self._owned = erlang is None
        self.erlang = erlang or Erlang(find_server(), PLUGINS)
        self.name = f"whimbrel_{secrets.token_hex(4)}@localhost"
        self.port, self._management, self._distribution = free_ports(3)
        super().__init__(self._management)
        self.folder = self.erlang.folder / self.name
        self.settings = list(settings)
        self.child: Child | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def pid(self) -> int:
        """Of the virtual machine itself. Raises ServerFailed when it does not run."""
        return self._running().pid

    def start(self) -> None:
        """Starts it unless it runs, and waits until it takes connections."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Starts it unless it runs, without a wait."""
        if self.child is not None and self.child.alive():
            return
        self.folder.mkdir(exist_ok=True)
        (self.folder / "enabled_plugins").write_text(f"[{','.join(PLUGINS)}].\n", encoding="ascii")
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "management.tcp.ip = 127.0.0.1",
            f"management.tcp.port = {self._management}",
            *_SETTINGS,
            *self.settings,
        ]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.child = Child(
            [self.erlang.scripts / "rabbitmq-server"],
            log=self.folder / "node.log",
            environment=self._environment(),
        )

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Until it answers AMQP. Raises ServerFailed when it ends instead, or does not in that time."""
        deadline = time.monotonic() + seconds
        while not self._answers():
            if not self._running().alive():
                raise ServerFailed(f"{self.name} ended: {self._running().tail()}")
            pause(deadline, f"{self.name} does not answer within {seconds:g} s: {self._running().tail()}")

    def answering(self) -> bool:
        """Whether it runs and is not frozen."""
        return self.child is not None and not self.child.frozen and self.child.alive()

    def stop(self) -> None:
        """As an administrator does: clients are told, everything is written. Some hundredths of a second."""
        if self.child is None or not self.child.alive():
            return
        if self.child.frozen:
            self.child.thaw()
        try:
            self.ask(_STOP)
        except ServerFailed:  # not yet, or no more, in a state to be asked
            self.child.terminate(_STOP_SECONDS)
        self.child.gone(_STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL of the virtual machine."""
        self._running().kill()

    def restart(self) -> None:
        """Stops it if it runs, and starts it with what it has stored."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers, the kernel takes what fits into its buffers."""
        self._running().freeze()

    def thaw(self) -> None:
        self._running().thaw()

    def wipe(self) -> None:
        """A broker that lost everything: the same address, no queues, no messages."""
        self.stop()
        shutil.rmtree(self.folder / "mnesia", ignore_errors=True)
        self.start()

    @property
    def alarms_url(self) -> str:
        """Of the management plugin: 200 without an alarm, 503 with one."""
        return f"http://guest:guest@127.0.0.1:{self._management}/api/health/checks/alarms"

    def ask(self, expression: str) -> Any:
        """The value of an Erlang expression on this node, as JSON has it. Raises ServerFailed."""
        return self.erlang.ask(self.name, expression)

    def raise_alarm(self) -> None:
        """The memory alarm: publishing connections are blocked, consumers go on."""
        self._set_watermark("0.000001", alarms=True)

    def clear_alarm(self) -> None:
        self._set_watermark(_WATERMARK, alarms=False)

    def raise_disk_alarm(self) -> None:
        """The alarm for disk, as `rabbitmqctl set_disk_free_limit` raises it."""
        self._set_limit(f'rabbit_disk_monitor:set_disk_free_limit("{_NO_DISK}")', alarms=True)

    def clear_disk_alarm(self) -> None:
        self._set_limit(f'rabbit_disk_monitor:set_disk_free_limit("{_DISK}")', alarms=False)

    def log(self) -> str:
        """What it wrote since its first start."""
        return self._running().log.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Ends it and removes all it left."""
        if self.child is not None and self.child.alive():
            self.child.kill()  # nothing of it is needed any more
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._owned:
            self.erlang.close()

    def _running(self) -> Child:
        if self.child is None:
            raise ServerFailed(f"{self.name} was never started")
        return self.child

    def _answers(self) -> bool:
        """A listening port alone could still be refused by a node that is not ready."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"  # a method frame: connection.start
        except OSError:
            return False

    def _set_watermark(self, value: str, *, alarms: bool) -> None:
        self._set_limit(f"vm_memory_monitor:set_vm_memory_high_watermark({value})", alarms=alarms)

    def _set_limit(self, expression: str, *, alarms: bool) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        self.ask(f"{expression}, true")
        while self.ask("rabbit_alarm:get_alarms() =/= []") != alarms:
            pause(deadline, f"The alarm of {self.name} did not change")

    def _environment(self) -> dict[str, str]:
        return {
            **self.erlang.environment(),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SCRIPTS_DIR": str(self.erlang.scripts),
            "RABBITMQ_PLUGINS_DIR": str(self.erlang.scripts.parent / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # not the machine's own
            "RABBITMQ_SERVER_ERL_ARGS": _MACHINE,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _OPTIONS,
            "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes the virtual machine, so that our child is it
        }
