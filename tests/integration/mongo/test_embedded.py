"""The embedded MongoDB, with a real mongod: who starts it, who stops it, what it survives."""

import contextlib
import json
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient, WriteConcern

from whimbrel.errors import EmbeddedUnavailable
from whimbrel.mongo.embedded import embedded, ensure_running, find_mongod
from whimbrel.mongo.embedded.binary import usable_mongod
from whimbrel.mongo.embedded.folder import LOG_LIMIT, Folder, Lock
from whimbrel.mongo.embedded.server import find, stop

usable_mongod()  # without one these tests fail, and say what to install; they are never skipped

USER = """
import sys
from pathlib import Path
from pymongo import MongoClient
from whimbrel.mongo.embedded import embedded

home, rounds, waits = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "waits"
for _ in range(rounds):
    with embedded(home) as uri, MongoClient(uri) as client:
        client.test.writes.insert_one({})
        if waits:
            print(uri, flush=True)
            sys.stdin.read()
"""
# A shebang ends at the first space, and the interpreter's path may hold one: a shell finds it, and Python skips that.
PYTHON = f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\n"

SLEEPER = f"""{PYTHON}
import sys, time
if "--version" in sys.argv:
    print("db version v6.0.5")
else:
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "a home" / ".whimbrel"
    yield home
    if home.is_dir():
        folder = Folder.at(home)
        if (server := find(folder)) is not None:
            stop(folder, server)


class User:
    """A process that uses the embedded MongoDB until it is told to leave."""

    def __init__(self, home: Path, rounds: int = 1, *, waits: bool = True) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home), str(rounds), "waits" if waits else "goes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def uri(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def leave(self) -> str:
        _, complaints = self.process.communicate(timeout=240)
        return complaints

    def kill(self) -> None:
        self.process.kill()
        self.leave()


@contextmanager
def user(home: Path, rounds: int = 1, *, waits: bool = True) -> Iterator[User]:
    someone = User(home, rounds, waits=waits)
    try:
        yield someone
    finally:
        if someone.process.returncode is None:
            someone.kill()


@pytest.fixture
def orphan(home: Path) -> psutil.Process:
    """A mongod whose only user was killed."""
    with user(home) as someone:
        assert someone.uri()
        orphan = server_of(home)
        someone.kill()
    assert orphan.is_running()
    return orphan


def server_of(home: Path) -> psutil.Process:
    return psutil.Process(json.loads((home / "mongod.json").read_text())["pid"])


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def ended_here(home: Path) -> bool:
    return (home / "mongod.json").exists() and find(Folder.at(home)) is None


def writes(uri: str) -> int:
    with MongoClient[dict[str, Any]](uri) as client:
        return client.test.writes.count_documents({})


@contextmanager
def somebody_on(port: int) -> Iterator[None]:
    """A server of another kind, which hangs up on whoever calls."""

    class Somebody(socketserver.TCPServer):
        allow_reuse_address = True

    with Somebody(("127.0.0.1", port), socketserver.BaseRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def failing_mongod(path: Path, line: str, code: int) -> Path:
    """A mongod that logs the line and ends."""
    return script(
        path,
        f"""{PYTHON}
import sys
if "--version" in sys.argv:
    print("db version v6.0.5")
    sys.exit()
with open(sys.argv[sys.argv.index("--logpath") + 1], "a") as log:
    print({line!r}, file=log)
sys.exit({code})
""",
    )


# Its life


def test_a_lone_user_has_a_replica_set_and_leaves_nothing_running(home: Path) -> None:
    began = time.monotonic()
    with embedded(home, cache_gb=0.25) as uri, MongoClient[dict[str, Any]](uri) as client:
        assert time.monotonic() - began < 60
        server = server_of(home)
        majority = client.test.get_collection("writes", write_concern=WriteConcern("majority", j=True))
        with client.start_session() as session, session.start_transaction():
            majority.insert_one({}, session=session)
        assert majority.count_documents({}) == 1
        options = client.admin.command("getCmdLineOpts")["parsed"]
        assert options["net"]["bindIp"] == "127.0.0.1"
        assert options["storage"]["wiredTiger"]["engineConfig"]["cacheSizeGB"] == pytest.approx(0.25)
        assert not Path(f"/tmp/mongodb-{options['net']['port']}.sock").exists()  # noqa: S108
        assert {Path(file.path).name for file in server.open_files()}.isdisjoint({"start", "users"})
        if sys.platform == "linux":
            descriptors = [Path(f"/proc/{server.pid}/fd/{number}").readlink() for number in range(3)]
            assert descriptors == [Path("/dev/null"), home / "mongod.log", home / "mongod.log"]
    assert ended(server)


def test_an_error_of_the_user_passes_and_the_server_stops(home: Path) -> None:
    with pytest.raises(ValueError, match="mine"), embedded(home):
        raise ValueError("mine")
    assert ended_here(home)


def test_h17_the_server_stops_with_its_last_user(home: Path) -> None:
    """H17: a counter of users would go wrong with the first kill -9; the kernel's locks do not."""
    with user(home) as starter, user(home) as other:
        uris = {starter.uri(), other.uri()}
        assert len(uris) == 1
        server = server_of(home)
        assert starter.leave() == ""
        assert not ended(server)
        assert writes(uris.pop()) == 2
        assert other.leave() == ""
        assert ended(server)


def test_h17_processes_that_come_and_go_at_the_same_time_all_find_a_server(home: Path) -> None:
    """H17: nobody joins a server that another one is just about to stop."""
    crowd = [User(home, rounds=4, waits=False) for _ in range(6)]
    complaints = [someone.leave() for someone in crowd]
    assert complaints == [""] * 6
    assert ended_here(home)
    with embedded(home) as uri:
        assert writes(uri) == 24


def test_h16_an_interrupt_of_the_starters_terminal_does_not_reach_the_server(home: Path) -> None:
    """H16: Ctrl-C goes to the whole foreground process group; mongod must not be in it."""
    with user(home) as starter:
        starter.uri()
        with embedded(home) as uri:
            server = server_of(home)
            assert server.ppid() == starter.process.pid
            assert os.getsid(server.pid) == server.pid
            os.killpg(starter.process.pid, signal.SIGINT)
            assert "KeyboardInterrupt" in starter.leave()
            assert not ended(server)
            assert writes(uri) == 1
    assert ended(server)


# What it survives


def test_h17_the_orphan_of_a_killed_user_is_adopted_and_stopped(home: Path, orphan: psutil.Process) -> None:
    """H17: kill -9 of the last user leaves mongod running; the next user takes it over."""
    with embedded(home) as uri:
        assert server_of(home) == orphan
        assert writes(uri) == 1
    assert ended(orphan)


def test_an_orphan_that_was_being_stopped_is_not_adopted(home: Path, orphan: psutil.Process) -> None:
    state = json.loads((home / "mongod.json").read_text())
    (home / "mongod.json").write_text(json.dumps({**state, "stopping": True}))
    with embedded(home) as uri:
        assert ended(orphan)
        assert server_of(home) != orphan
        assert writes(uri) == 1


def test_an_orphan_whose_data_was_deleted_is_not_adopted(home: Path, orphan: psutil.Process) -> None:
    while home.exists():
        with contextlib.suppress(OSError):  # it writes there while it lives
            shutil.rmtree(home)
    with embedded(home) as uri:
        assert ended(orphan)
        assert writes(uri) == 0


def test_a_killed_server_comes_back_for_its_users_on_the_same_port(home: Path) -> None:
    with embedded(home) as uri, MongoClient[dict[str, Any]](uri) as client:
        client.test.writes.with_options(write_concern=WriteConcern("majority")).insert_one({})
        first = server_of(home)
        first.kill()
        assert ensure_running(home) == uri
        second = server_of(home)
        assert second != first
        assert client.test.writes.count_documents({}) == 1  # the same client, and nothing is lost
        second.kill()
        with embedded(home) as again:
            assert again == uri
            assert client.test.writes.count_documents({}) == 1
        third = server_of(home)
        assert not ended(third)
    assert ended(third)


def test_a_missing_or_rubbish_state_file_does_not_matter(home: Path) -> None:
    with embedded(home) as uri:
        server = server_of(home)
        file = home / "mongod.json"
        for rubbish in ("", "{", "[1]", '{"pid": 1, "port": 1}', '{"pid": -5, "port": 1e999}', "\0\xff" * 9):
            file.write_bytes(rubbish.encode("latin-1"))
            assert ensure_running(home) == uri
            assert server_of(home) == server
        file.unlink()
        with embedded(home) as again:
            assert again == uri
    assert ended(server)


def test_a_port_that_somebody_else_has_taken_is_left_to_him(home: Path) -> None:
    with embedded(home) as before, MongoClient[dict[str, Any]](before) as client:
        client.test.writes.insert_one({})
    port = json.loads((home / "mongod.json").read_text())["port"]
    with somebody_on(port), embedded(home) as after:
        assert after != before
        assert writes(after) == 1
    with embedded(home) as later:
        assert later == after
        assert writes(later) == 1


# What it says


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for home in (file, file / "below"):
        with pytest.raises(EmbeddedUnavailable, match=r"file is a file: move it away"), embedded(home):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EmbeddedUnavailable, match="Permission denied"), embedded(tmp_path / "home"):
        pass
    tmp_path.chmod(0o700)


def test_a_full_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")  # noqa: PYI024
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(90_000_000))
    with pytest.raises(EmbeddedUnavailable, match="Only 90 MB are free"), embedded(home):
        pass


def test_data_that_a_strange_server_has_open(home: Path) -> None:
    data = Folder.at(home).data
    stranger = subprocess.Popen([sys.executable, "-c", "input()", "--dbpath", data], stdin=subprocess.PIPE)
    with pytest.raises(EmbeddedUnavailable, match=rf"\(process {stranger.pid}\)"), embedded(home):
        pass
    assert stranger.poll() is None
    stranger.kill()
    stranger.communicate()


def test_a_server_that_does_not_get_ready_is_stopped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHIMBREL_MONGOD", str(script(home.parent / "sleeper", SLEEPER)))
    with pytest.raises(EmbeddedUnavailable, match="not ready in time"), embedded(home, start_seconds=0.3):
        pass
    assert ended_here(home)


def test_another_process_that_hangs_in_its_start(home: Path) -> None:
    folder = Folder.at(home)
    lock = Lock(home / "start")
    lock.exclusive(1)
    with pytest.raises(EmbeddedUnavailable, match="Another process has held"), folder.starting(0.05):
        pass
    lock.close()
    with folder.starting(0.05):
        pass


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ('{"s": "E", "msg": "WiredTiger error", "attr": {"error": "28: No space left on device"}}', 14, "is full"),
        ('{"s": "F", "msg": "Wrong mongod version"}', 62, "another version of MongoDB"),
        ('{"s": "E", "msg": "WT", "attr": {"message": {"msg": "unsupported WiredTiger file version: 12"}}}', 14, "another version of MongoDB"),
        ('{"s": "E", "msg": "Failed", "attr": {"error": "SocketException: Address already in use"}}', 48, "no free port"),
        ('{"s": "E", "msg": "DBException", "attr": {"error": "DBPathInUse: Another mongod instance is already running"}}', 100, "of another user or container"),
        ('{"s": "E", "msg": "Broken", "attr": {"error": "the reason"}}', 1, r"\(Broken: the reason\): .*mongod\.log says why"),
        ("words of no known kind", 1, r"\(words of no known kind\)"),
        ("", 7, "exit code 7"),
    ],
    ids=["disk", "version", "files", "port", "folder", "reason", "words", "code"],
)  # fmt: skip
def test_a_server_that_ends_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, line: str, code: int, sentence: str
) -> None:
    monkeypatch.setenv("WHIMBREL_MONGOD", str(failing_mongod(home.parent / "failing", line, code)))
    with pytest.raises(EmbeddedUnavailable, match=sentence), embedded(home):
        pass


def test_damaged_data(home: Path) -> None:
    (Folder.at(home).data / "WiredTiger.turtle").write_text("junk")
    (Folder.at(home).data / "WiredTiger").write_text("junk")
    with pytest.raises(EmbeddedUnavailable, match=r"did not start \(.*WiredTiger"), embedded(home):
        pass


def test_a_long_log_is_put_aside(home: Path) -> None:
    folder = Folder.at(home)
    folder.log.touch()
    os.truncate(folder.log, LOG_LIMIT + 1)
    folder.make_room()
    assert not folder.log.exists()
    assert (home / "mongod.log.1").stat().st_size == LOG_LIMIT + 1


# Which mongod


def test_the_order_of_the_lookup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = script(tmp_path / "named", "")
    on_path = script(tmp_path / "bin" / "mongod", "")
    packaged = script(tmp_path / "site" / "fiftyone" / "db" / "bin" / "mongod", "", mode=0o644)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.setenv("WHIMBREL_MONGOD", str(named))
    assert find_mongod() == named
    monkeypatch.setenv("WHIMBREL_MONGOD", "")
    assert find_mongod() == on_path
    on_path.unlink()
    assert find_mongod() == packaged
    assert os.access(packaged, os.X_OK)  # although its wheel had lost that


def test_no_mongod_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHIMBREL_MONGOD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmbeddedUnavailable, match=r"No mongod was found.*pip install 'whimbrel\[embedded\]'"):
        find_mongod()


def test_whimbrel_mongod_points_nowhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHIMBREL_MONGOD", "/nowhere/mongod")
    with pytest.raises(EmbeddedUnavailable, match="WHIMBREL_MONGOD is /nowhere/mongod"), embedded(home):
        pass


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        (
            "#!/bin/sh\necho 'mongod: error while loading shared libraries: libcrypto.so.3: cannot open' >&2\nexit 127\n",
            0o755,
            r"needs the library libcrypto\.so\.3.*apt-get install libssl3",
        ),
        (
            "#!/bin/sh\necho 'mongod: error while loading shared libraries: libodd.so.1: no' >&2\nexit 127\n",
            0o755,
            r"needs the library libodd\.so\.1.*the package that holds it",
        ),
        ("#!/bin/sh\necho 'db version v4.4.29'\n", 0o755, "is MongoDB 4.4, which is too old"),
        ("#!/bin/sh\necho hello\n", 0o755, "does not say which MongoDB"),
        ("#!/bin/sh\nkill -ILL $$\n", 0o755, "AVX"),
        ("#!/bin/sh\necho strange >&2; exit 1\n", 0o755, r"cannot run here \(strange\)"),
        ("#!/no/such/interpreter\n", 0o755, "another kind of system"),
        ("\x7fELF nonsense", 0o755, "another kind of system"),
        ("", 0o644, r"chmod \+x"),
    ],
    ids=["libcrypto", "libodd", "old", "mute", "avx", "strange", "interpreter", "elf", "mode"],
)
def test_a_binary_that_cannot_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: int, sentence: str
) -> None:
    monkeypatch.setenv("WHIMBREL_MONGOD", str(script(home.parent / "mongod", text, mode)))
    with pytest.raises(EmbeddedUnavailable, match=sentence), embedded(home):
        pass
