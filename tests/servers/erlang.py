"""What RabbitMQ's virtual machine needs: a port mapper of our own, few plugins to look through, and a way to ask it."""

import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.servers.install import ServerMissing
from tests.servers.processes import (
    Child,
    ServerFailed,
    free_ports,
    listening,
    make_folder,
    pause,
    remove_folder,
)

_ASK_SECONDS: Final = 20.0
_APPLICATIONS: Final = re.compile(r"\{(?:included_)?applications,\s*\[(.*?)\]", re.DOTALL)


class Erlang:
    """The surroundings of one or more nodes: epmd on a free port of loopback, a cookie, a HOME, the programs.

    A node's own epmd would stay behind as a daemon, on a port that a user's broker shares.
    """

    def __init__(self, server: Path, plugins: Iterable[str]) -> None:
        self.folder = make_folder()
        self.cookie = secrets.token_hex(10)
        self.home = self.folder / "home"
        self.home.mkdir()
        cookie = self.home / ".erlang.cookie"
        cookie.write_text(self.cookie, encoding="ascii")
        cookie.chmod(0o400)
        self.scripts = _trimmed(server, self.folder / "rabbitmq", plugins)
        (self._port,) = free_ports(1)
        self._caller = program("erl_call")
        arguments = [program("epmd"), "-address", "127.0.0.1", "-port", str(self._port)]
        self._mapper = Child(arguments, log=self.folder / "epmd.log", environment=self.environment())
        deadline = time.monotonic() + _ASK_SECONDS
        while not listening(self._port):
            pause(deadline, f"epmd does not listen: {self._mapper.tail()}")

    def environment(self) -> dict[str, str]:
        """Ours without a user's settings of RabbitMQ and Erlang, which would lead to a user's broker."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))
        }
        return {
            **kept,
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_MAX_PORTS": "4096",  # the default's tables cost half a second of every start
        }

    def ask(self, node: str, expression: str, *, seconds: float = _ASK_SECONDS) -> Any:
        """The value of an Erlang expression on a node (5 ms), by way of JSON. Raises ServerFailed."""
        text = f"io:put_chars(rabbit_json:encode(begin {expression} end)), ok.\n"
        command = [self._caller, "-sname", node, "-c", self.cookie, "-fetch_stdout", "-no_result_term", "-e"]
        try:
            said = subprocess.run(
                command,
                input=text,
                env=self.environment(),
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerFailed(f"{node} gave no answer to {expression} in {seconds:g} s") from error
        try:
            return json.loads(said.stdout)
        except ValueError as error:
            raise ServerFailed(f"{node} cannot say {expression}: {said.stdout} {said.stderr}") from error

    def close(self) -> None:
        self._mapper.kill()
        remove_folder(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def program(name: str) -> str:
    """The path of one of Erlang's programs. Raises ServerMissing."""
    if found := shutil.which(name):
        return found
    if erl := shutil.which("erl"):
        root = Path(erl).resolve().parent.parent
        for path in sorted([*root.glob(f"erts-*/bin/{name}"), *root.glob(f"lib/erl_interface-*/bin/{name}")]):
            return str(path)
    raise ServerMissing(f"Erlang's {name} was not found: put the bin folder of Erlang on the PATH.")


def _trimmed(server: Path, home: Path, plugins: Iterable[str]) -> Path:
    """A view of RabbitMQ with nothing but these plugins and what they need; its folder of scripts.

    Every module that is loaded is looked for in every plugin's folder; with all 70 a start takes a second longer.
    """
    installed = server.parent / "plugins"
    folders = {path.name.rsplit("-", 1)[0]: path for path in installed.iterdir() if (path / "ebin").is_dir()}
    (home / "plugins").mkdir(parents=True)
    for name in _needed(folders, plugins) or ():
        (home / "plugins" / folders[name].name).symlink_to(folders[name])
    for name in ("sbin", "escript"):
        (home / name).symlink_to(server.parent / name)
    return home / "sbin"


def _needed(folders: dict[str, Path], plugins: Iterable[str]) -> set[str]:
    left, found = ["rabbit", *plugins], set[str]()
    while left:
        name = left.pop()
        if name in folders and name not in found:
            found.add(name)
            text = (folders[name] / "ebin" / f"{name}.app").read_text(encoding="utf-8")
            left += re.findall(r"\w+", " ".join(_APPLICATIONS.findall(text)))
    return found
