"""Makes sure that a RabbitMQ server is installed: `python -m tests.servers.install`.

Only its programs are needed. The tests start nodes of their own, so the system's service is not started.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

COMMAND: Final = "apt-get install rabbitmq-server"
CHOICE: Final = "RABBITMQ"  # the environment variable that names another installation than the system's
_PACKAGED: Final = Path("/usr/lib/rabbitmq")
_POLICY: Final = Path("/usr/sbin/policy-rc.d")


class ServerMissing(Exception):
    """No RabbitMQ server is installed, and the sentence says what to do."""


def find_server() -> Path:
    """The folder of `rabbitmq-server` and `rabbitmqctl` themselves.

    Debian's programs of these names in /usr/sbin change to the user `rabbitmq` and its data: not what we want.
    Raises ServerMissing.
    """
    if named := os.environ.get(CHOICE):
        return _within(Path(named))
    packaged = sorted(_PACKAGED.glob("lib/rabbitmq_server-*/sbin")) or [_PACKAGED / "bin"]
    if (packaged[-1] / "rabbitmq-server").is_file():
        return packaged[-1]
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    if found := shutil.which("rabbitmq-server", path=search):
        return Path(found).resolve().parent
    raise ServerMissing(
        f"RabbitMQ is not installed: run `{COMMAND}` as root on Debian or Ubuntu, else put rabbitmq-server on the PATH."
    )


def _within(root: Path) -> Path:
    """Of an installation: where an archive was unpacked, or a package's folder, such as /usr/lib/rabbitmq."""
    folders = [root, root / "sbin", *sorted(root.glob("lib/rabbitmq_server-*/sbin"), reverse=True)]
    for found in folders:
        if (found / "rabbitmq-server").is_file() and (found.parent / "plugins").is_dir():
            return found.resolve()
    raise ServerMissing(
        f"{CHOICE} is {root}, where there is no rabbitmq-server: name the folder of an installation, such as "
        "/opt/rabbitmq_server-4.0.5, and put the bin folder of an Erlang that it can run with first on the PATH."
    )


def install() -> None:
    """Installs it where that is possible without asking. Raises ServerMissing."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        find_server()
        return
    with _no_services():
        _quietly(apt, "-qq", "update")  # should it fail, what is known of may still do
        _quietly(apt, "-qq", "install", "--yes", "--no-install-recommends", "rabbitmq-server")
    if systemctl := shutil.which(
        "systemctl"
    ):  # a broker that nobody asked for should not start with the machine
        _quietly(systemctl, "disable", "rabbitmq-server")
    find_server()


def _quietly(*command: str) -> None:
    """Runs it; says what it said if it fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    ended = subprocess.run(
        command, env=environment, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if ended.returncode:
        sys.stderr.write(ended.stdout + ended.stderr)


@contextmanager
def _no_services() -> Iterator[None]:
    """Debian asks this program before it starts a service; 101 forbids it. The machine's own one is kept."""
    try:
        with _POLICY.open("x", encoding="utf-8") as policy:
            policy.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def main() -> int:
    try:
        find_server()
    except ServerMissing as missing:
        if os.environ.get(CHOICE):
            sys.stderr.write(f"{missing}\n")
            return 1
        try:
            install()
        except ServerMissing as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
