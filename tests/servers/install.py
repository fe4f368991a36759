"""Makes sure that a RabbitMQ server and Chromium are installed: `python -m tests.servers.install`.

Only their programs are needed. The tests start nodes of their own, so the system's service is not started.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers.chromium import CHROMIUM, BrowserMissing, find_chromium

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
    """Installs the server where that is possible without asking. Raises ServerMissing."""
    if not _by_apt("rabbitmq-server"):
        find_server()
        return
    if systemctl := shutil.which(
        "systemctl"
    ):  # a broker that nobody asked for should not start with the machine
        _quietly(systemctl, "disable", "rabbitmq-server")
    find_server()


def install_chromium() -> None:
    """Installs the browser where that is possible without asking. Raises BrowserMissing."""
    # Without a font a page has no text that could be seen.
    _by_apt("chromium", "fonts-dejavu-core")
    find_chromium()


def _by_apt(*packages: str) -> bool:
    """Whether apt is there, and may install; what it cannot is found missing afterwards."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return False
    with _no_services():
        _quietly(apt, "-qq", "update")  # should it fail, what is known of may still do
        _quietly(apt, "-qq", "install", "--yes", "--no-install-recommends", *packages)
    return True


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
    both = ((CHOICE, find_server, install), (CHROMIUM, find_chromium, install_chromium))
    missing = [sentence for each in both if (sentence := _missing(*each))]
    sys.stderr.writelines(f"{sentence}\n" for sentence in missing)
    return 1 if missing else 0


def _missing(variable: str, find: Callable[[], object], make_sure: Callable[[], None]) -> str:
    """Installs one of them where it is missing, unless the variable names it; returns what is to be said where it still is."""
    try:
        find()
    except (ServerMissing, BrowserMissing) as missing:
        if os.environ.get(variable):
            return str(missing)
        try:
            make_sure()
        except (ServerMissing, BrowserMissing) as error:
            return str(error)
    return ""


if __name__ == "__main__":
    sys.exit(main())
