"""Another user of the same machine: what he can read, whom he can pass for, and whose home he can slip into."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from tests.waiting import until
from whimbrel.errors import EmbeddedUnavailable
from whimbrel.mongo.embedded import embedded, find_mongod
from whimbrel.mongo.embedded.folder import Folder, Lock
from whimbrel.mongo.embedded.server import find, obtain, stop

NOBODY = 65534
ROOT = os.geteuid() == 0
STRANGER = Path(__file__).with_name("stranger.py")
Client = MongoClient[dict[str, Any]]


@pytest.fixture
def home() -> Iterator[Path]:
    """In a folder that everybody may look into: what is inside must hold by itself."""
    outside = Path(tempfile.mkdtemp(prefix="whimbrel-hostile-"))
    outside.chmod(0o755)
    yield outside / "home"
    place = outside / "home"
    if place.is_dir() and not place.is_symlink() and place.stat().st_uid == os.geteuid():
        place.chmod(0o700)
        folder = Folder.at(place)
        if (server := find(folder)) is not None:
            stop(folder, server)
    shutil.rmtree(outside)


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Path, str]]:
    """A home whose MongoDB runs, and its address."""
    outside = Path(tempfile.mkdtemp(prefix="whimbrel-hostile-"))
    outside.chmod(0o755)
    with embedded(outside / "home") as uri:
        yield outside / "home", uri
    shutil.rmtree(outside)


def port_of(home: Path) -> int:
    return int(json.loads((home / "mongod.json").read_text())["port"])


def secret_in(home: Path) -> str:
    return (home / "keyfile").read_text().strip()


def modes(home: Path) -> dict[str, int]:
    return {str(each): stat.S_IMODE(each.lstat().st_mode) for each in (home, *home.rglob("*"))}


# What he can read and do


def test_nothing_in_a_home_is_open_to_others(guarded: tuple[Path, str]) -> None:
    home, _ = guarded
    found = modes(home)
    assert len(found) > 10
    assert {path: mode for path, mode in found.items() if mode & 0o077} == {}
    assert found[str(home)] == 0o700
    assert found[str(home / "keyfile")] == found[str(home / "mongod.log")] == 0o600


def test_another_user_reads_nothing_of_it(guarded: tuple[Path, str]) -> None:
    """By another user where tests may play one; that no mode lets him is asserted everywhere, above."""
    home, _ = guarded
    code = (
        "import os, sys; print(os.geteuid()); os.listdir(sys.argv[1]); open(sys.argv[1] + '/keyfile').read()"
    )
    other = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if ROOT else {}
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    place = home if ROOT else "/root"
    done = subprocess.run(  # type: ignore[call-overload]
        [python, "-c", code, place], capture_output=True, text=True, check=False, cwd="/", **other
    )
    assert done.stdout.split() == [str(NOBODY if ROOT else os.geteuid())]
    assert "PermissionError" in done.stderr


@pytest.mark.parametrize(
    ("database", "command"),
    [
        ("admin", {"listDatabases": 1}),
        ("test", {"find": "things"}),
        ("test", {"insert": "things", "documents": [{}]}),
        ("admin", {"createUser": "mine", "pwd": "mine", "roles": ["root"]}),
        ("admin", {"replSetReconfig": {"_id": "whimbrel", "version": 99, "members": []}, "force": True}),
        ("admin", {"shutdown": 1}),
        ("admin", {"getCmdLineOpts": 1}),
    ],
    ids=lambda it: next(iter(it)) if isinstance(it, dict) else it,
)
def test_whoever_connects_without_the_secret_is_refused(
    guarded: tuple[Path, str], database: str, command: dict[str, Any]
) -> None:
    """From the same address as its owner, which makes nobody its administrator."""
    home, _ = guarded
    with Client("127.0.0.1", port_of(home), directConnection=True) as client:
        with pytest.raises(OperationFailure) as refused:
            client[database].command(command)
        assert refused.value.code == 13


def test_a_guess_is_refused(guarded: tuple[Path, str]) -> None:
    home, uri = guarded
    wrong = uri.replace(secret_in(home), secrets.token_hex(32))
    with Client(wrong) as client, pytest.raises(OperationFailure, match="Authentication failed"):
        client.admin.command("ping")


def test_the_secret_is_told_to_nobody(guarded: tuple[Path, str]) -> None:
    """Not by command lines, which everybody sees, nor by logs, errors and what debuggers print."""
    home, uri = guarded
    secret = secret_in(home)
    assert secret in uri
    server = find(Folder.at(home))
    assert server is not None
    environment = {**os.environ, "MONGODB_URI": "", "WHIMBREL_HOME": str(home), "LOG_LEVEL": "debug"}
    program, log = [sys.executable, "-m", "whimbrel.cli.main"], home.parent / "log"
    with log.open("a") as out:
        worker = subprocess.Popen(
            [*program, "worker", "--workers", "1"], env=environment, stdout=out, stderr=out
        )
    try:
        with Client(uri) as client:
            until(lambda: client["whimbrel"]["whimbrel_workers"].find_one({}))
        family = [server.process, psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
        assert len(family) >= 3
        assert not any(secret in " ".join(each.cmdline()) for each in family)
        with log.open("a") as out:
            for words in (["status", "20990101-aaaaaa"], ["workers", "--json"]):
                subprocess.run([*program, *words], env=environment, stdout=out, stderr=out, check=False)
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(90)
    said = log.read_text()
    assert "Serves some-model" in said
    assert "20990101-aaaaaa" in said
    assert not any(secret in each for each in (said, repr(server), (home / "mongod.log").read_text()))


# Whom he can pass for


@contextmanager
def stranger(port: int, *options: str, **other: Any) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that sits on the port; and the folder where it keeps what it heard."""
    folder = Path(tempfile.mkdtemp(prefix="whimbrel-stranger-"))
    folder.chmod(0o777)
    with subprocess.Popen([sys.executable, STRANGER, str(port), folder, *options], **other) as process:
        try:
            until((folder / "ready").exists)
            yield process, folder
        finally:
            process.kill()
    shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def heard(folder: Path) -> bytes:
    return (folder / "heard").read_bytes() if (folder / "heard").exists() else b""


def test_a_process_that_only_looks_like_the_server_is_not_trusted(home: Path) -> None:
    """It has the command line and answers as the server would; it cannot answer the login."""
    with embedded(home) as uri, Client(uri) as client:
        client.test.things.insert_one({"_id": "mine"})
    port = free_port()
    data = str(Folder.at(home).data)
    with stranger(port, "--dbpath", data, "--replSet", "whimbrel", "--port", str(port)) as (process, folder):
        with embedded(home) as uri, Client(uri) as client:
            assert find(Folder.at(home)) is not None
            assert client.test.things.find_one() == {"_id": "mine"}
        assert (
            process.wait(30) is not None
        )  # it is this user's, and alone: it was ended as one that does not know the secret
        assert b"saslStart" in heard(folder)
        assert secret_in(home).encode() not in heard(folder)
        assert b"getCmdLineOpts" not in heard(folder)  # nothing was asked of it after that


def test_it_is_not_ended_where_others_may_work_with_it(home: Path) -> None:
    folder = Folder.at(home)
    (folder.data / "mongod.lock").touch()
    port = free_port()
    others = Lock(folder.root / "users")
    others.shared(1)
    options = ("--dbpath", str(folder.data), "--replSet", "whimbrel", "--port", str(port))
    with stranger(port, *options) as (process, _):
        with (
            pytest.raises(EmbeddedUnavailable, match=rf"\(process {process.pid}\) does not know the secret"),
            embedded(home),
        ):
            pass
        assert process.poll() is None
    others.close()


def test_a_process_of_another_user_is_not_looked_at(home: Path) -> None:
    """It is not taken for the server, nor for one that has the data open: its command line is its own affair."""
    folder = Folder.at(home)
    options = ("--dbpath", str(folder.data), "--replSet", "whimbrel", "--port", "1")
    if ROOT:
        python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
        words = [python, "-c", "import sys; print(flush=True); sys.stdin.read()", *options]
        other = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **other
        ) as process:  # type: ignore[call-overload]
            assert process.stdout.readline()
            assert set(psutil.Process(process.pid).uids()) == {NOBODY}
            assert "--dbpath" in psutil.Process(process.pid).cmdline()
            found = find(folder)
            process.kill()
        assert found is None
    else:
        init = psutil.Process(1)
        init.cmdline = lambda: ["mongod", *options]  # type: ignore[method-assign]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(psutil, "process_iter", lambda: iter([init]))
            assert find(folder) is None


def test_a_client_does_not_log_in_to_whoever_took_the_port(home: Path) -> None:
    """The server is gone for a moment, and its port is another's: what was to be written there is not told to him."""
    with embedded(home) as uri:
        pass
    with stranger(port_of(home)) as (_, folder):
        with Client(uri, serverSelectionTimeoutMS=3000) as client, pytest.raises(PyMongoError):
            client.test.things.insert_one({"text": "for my eyes only"})
        assert b"saslStart" in heard(folder)
        assert b"for my eyes only" not in heard(folder)
        assert secret_in(home).encode() not in heard(folder)


# Whose home he can slip into


def test_the_home_of_another_user_is_refused(home: Path) -> None:
    if ROOT:
        home.mkdir(0o755)
        os.chown(home, NOBODY, NOBODY)
    place, owner = (home, "nobody") if ROOT else (Path("/usr"), "root")
    with (
        pytest.raises(EmbeddedUnavailable, match=rf"belongs to the user ({owner}|65534), .*WHIMBREL_HOME"),
        embedded(place),
    ):
        pass
    assert not (place / "mongo").exists()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702, 0o770], ids=oct)
def test_a_home_that_others_could_write_is_refused(home: Path, mode: int) -> None:
    home.mkdir()
    if mode == 0o770 and ROOT:
        os.chown(home, -1, NOBODY)
    elif mode == 0o770:
        pytest.MonkeyPatch().setattr("grp.getgrgid", lambda _: (_ for _ in ()).throw(KeyError()))
    home.chmod(mode)
    with (
        pytest.raises(EmbeddedUnavailable, match=rf"\(mode {mode:04o}\).*run `chmod 700 {home}`"),
        embedded(home),
    ):
        pass
    assert list(home.iterdir()) == []


def test_a_home_behind_a_link_is_refused(home: Path) -> None:
    (home.parent / "elsewhere").mkdir()
    home.symlink_to(home.parent / "elsewhere")
    with (
        pytest.raises(EmbeddedUnavailable, match=r"is a symbolic link to .*elsewhere: set WHIMBREL_HOME"),
        embedded(home),
    ):
        pass
    assert list((home.parent / "elsewhere").iterdir()) == []


def test_a_folder_for_other_things_too_keeps_its_mode(home: Path) -> None:
    """What Whimbrel puts there is closed all the same."""
    home.mkdir()
    home.chmod(0o755)
    (home / "index.html").touch(0o644)
    folder = Folder.at(home)
    Lock(folder.root / "users").close()
    found = {Path(path).name: mode for path, mode in modes(home).items()}
    assert found == {"home": 0o755, "index.html": 0o644, "mongo": 0o700, "users": 0o600}


def test_a_secret_that_others_could_read_is_replaced(home: Path) -> None:
    folder = Folder.at(home)
    first = folder.secret()
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert folder.secret() == first
    folder.keyfile.chmod(0o644)
    second = Folder.at(home).secret()
    assert second != first
    folder.keyfile.write_text("short")
    third = folder.secret()
    assert third not in ("short", second)
    elsewhere = home.parent / "known"
    elsewhere.write_text(first)
    elsewhere.chmod(0o600)
    folder.keyfile.unlink()
    folder.keyfile.symlink_to(elsewhere)
    assert folder.secret() != first
    assert stat.S_IMODE(folder.keyfile.lstat().st_mode) == 0o600


# Homes from before


@contextmanager
def as_before(home: Path) -> Iterator[tuple[psutil.Process, Client]]:
    """A server as earlier versions started it, in a home as they made it: open to all, without a password."""
    (home / "mongo").mkdir(parents=True)
    port = free_port()
    arguments = [
        str(find_mongod()), "--dbpath", str(home / "mongo"), "--replSet", "whimbrel", "--bind_ip", "127.0.0.1", "--port", str(port),
        "--nounixsocket", "--logpath", str(home / "mongod.log"), "--wiredTigerCacheSizeGB", "0.25",
    ]  # fmt: skip
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        with Client("127.0.0.1", port, directConnection=True) as client:
            member = {"_id": 0, "host": f"127.0.0.1:{port}"}
            client.admin.command("replSetInitiate", {"_id": "whimbrel", "members": [member]})
            until(lambda: client.admin.command("hello")["isWritablePrimary"])
            client.test.things.insert_one({"_id": "from before"})
            (home / "mongod.json").write_text(
                json.dumps({"pid": process.pid, "port": port, "stopping": False})
            )
            for each in (home / "start", home / "users"):
                each.touch()
            for each in home.iterdir():
                each.chmod(0o755 if each.is_dir() else 0o644)
            home.chmod(0o755)
            yield psutil.Process(process.pid), client
        process.kill()


def holds_what_was_there(uri: str, home: Path) -> None:
    with Client(uri) as client:
        assert client.test.things.find_one() == {"_id": "from before"}
    with Client("127.0.0.1", port_of(home), directConnection=True) as client:
        with pytest.raises(OperationFailure) as refused:
            client.test.things.find_one()
        assert refused.value.code == 13
    assert {path: mode for path, mode in modes(home).items() if mode & 0o077} == {}


def test_a_home_from_before_goes_on_with_its_data(home: Path) -> None:
    """While its open server runs, used by nobody; and once more after its secret was lost."""
    with as_before(home) as (server, _):
        with embedded(home, create=False) as uri:
            assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
            holds_what_was_there(uri, home)
            first = secret_in(home)
        (home / "keyfile").unlink()
        with embedded(home, create=False) as uri:
            assert secret_in(home) != first
            holds_what_was_there(uri, home)


def test_an_open_server_that_others_work_with_is_left_to_them(home: Path) -> None:
    with as_before(home) as (server, client):
        others = Lock(home / "users")
        others.shared(1)
        with (
            pytest.raises(EmbeddedUnavailable, match="an earlier version of Whimbrel started it"),
            embedded(home),
        ):
            pass
        assert client.test.things.count_documents({}) == 1
        assert server.is_running()
        others.close()


def test_a_port_that_is_taken_between_is_given_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is quicker with the port than our own server gets no login, and ours gets another port."""
    folder = Folder.at(home)
    port = free_port()
    with stranger(port) as (_, told):
        monkeypatch.setattr("whimbrel.mongo.embedded.server._free", lambda _: True)
        folder.remember(folder.state()._replace(pid=2**30, port=port))
        with folder.starting(1):
            server = obtain(folder, 0.25, 60, lambda: True)
        assert server.port != port
        assert folder.secret().encode() not in heard(told)
        stop(folder, server)
