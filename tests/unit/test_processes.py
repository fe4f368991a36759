"""Processes that hold user code: a copy of this one is to them what a fresh interpreter is."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# What starts the process: with one thread it is copied, with two it is not.
STARTING = """
import json, os, signal, sys, threading
from whimbrel.workers.process_start import ForkedProcess, start
import atexit
atexit.register(lambda: os.write(2, b"the parent's exit handler\\n"))
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
if sys.argv[1] == "fresh":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
secret, kept = os.open("secret", os.O_RDONLY), os.open("kept", os.O_RDONLY)
os.set_inheritable(secret, False)
sys.stdout.write("said before;")
streams = os.open("in", os.O_RDONLY), os.open("out", os.O_WRONLY | os.O_CREAT), os.open("err", os.O_WRONLY | os.O_CREAT)
environment = {**os.environ, "ONLY": "here"}
child = start("helped", [sys.argv[2], str(kept)], streams=streams, keep=(kept,), environment=environment)
if sys.argv[2] == "wait":
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
code = child.wait(20)
assert child.returncode == code == child.poll()
print(json.dumps({"copied": isinstance(child, ForkedProcess), "code": code, "ONLY": os.environ.get("ONLY"), "parent": os.getpid()}))
"""
HELPED = """
import atexit, json, os, random, signal, sys, threading, time
atexit.register(lambda: os.write(2, b"its exit handler\\n"))
def late():
    while threading.main_thread().is_alive() and not os.path.exists("over"):
        time.sleep(0.01)
    os.write(2, b"its thread\\n")
def main():
    what, kept = sys.argv[1], int(sys.argv[2])
    if what == "wait":
        signal.pause()
    if what == "raise":
        raise KeyError("nobody catches it")
    if what == "exit":
        sys.exit(7)
    if what == "thread":
        threading.Thread(target=late).start()
        open("over", "w").close()
        return
    numbers = sorted(int(each) for each in os.listdir("/proc/self/fd"))
    print(json.dumps({
        "argv": sys.argv, "orig_argv": sys.orig_argv,
        "command": open("/proc/self/cmdline").read().replace("\\0", " ").split(), "ONLY": os.environ["ONLY"], "in": sys.stdin.read(), "kept": os.read(kept, 100).decode(),
        "others": [each for each in numbers if each > 2 and each != kept and os.path.exists(f"/proc/self/fd/{each}")],
        "session": os.getsid(0) == os.getpid(), "parent": os.getppid(), "path": sys.path[0],
        "signals": [int(signal.getsignal(each)) for each in (signal.SIGTERM, signal.SIGHUP)],
        "threads": threading.active_count(),
    }))
    print("an error", file=sys.stderr)
if __name__ == "__main__":
    main()
"""


class Started:
    """What a process said that was started by a process of its own."""

    def __init__(self, folder: Path, how: str, what: str) -> None:
        for name, text in (("helped.py", HELPED), ("in", "given"), ("kept", "kept"), ("secret", "secret")):
            (folder / name).write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", STARTING, how, what],
            cwd=folder, capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        before, _, told = done.stdout.partition(";")
        assert before == "said before", "once, and not by the copy too"
        self.about = json.loads(told)
        self.out, self.err = (folder / "out").read_text(), (folder / "err").read_text()
        self.parent_err = done.stderr


HOW = pytest.mark.parametrize("how", ["copied", "fresh"])


@HOW
def test_it_has_what_it_was_given_and_nothing_else(tmp_path: Path, how: str) -> None:
    found = Started(tmp_path, how, "tell")
    assert found.about["copied"] is (how == "copied")
    assert found.about["code"] == 0
    assert found.about["ONLY"] is None, "its environment is its own"
    told = json.loads(found.out)
    assert told["argv"][:2] == [str(tmp_path / "helped.py"), "tell"]
    assert told["command"] == told["orig_argv"] == [sys.executable, "-m", "helped", *told["argv"][1:]]
    assert (told["ONLY"], told["in"], told["kept"]) == ("here", "given", "kept")
    assert told["others"] == []
    assert told["session"]
    assert told["parent"] == found.about["parent"]
    assert told["path"] == str(tmp_path)
    assert told["signals"] == [signal.SIG_DFL, signal.SIG_IGN], "what is ignored stays so, as under nohup"
    assert told["threads"] == 1
    assert found.err == "an error\nits exit handler\n", "and not the parent's"
    assert found.parent_err == "the parent's exit handler\n"


@HOW
@pytest.mark.parametrize(("what", "code"), [("exit", 7), ("raise", 1), ("wait", -15)])
def test_how_it_ended_is_known(tmp_path: Path, how: str, what: str, code: int) -> None:
    found = Started(tmp_path, how, what)
    assert found.about["code"] == code
    assert ("KeyError: 'nobody catches it'" in found.err) is (what == "raise")
    assert ("its exit handler" in found.err) is (what != "wait")


@HOW
def test_its_threads_end_before_it_does(tmp_path: Path, how: str) -> None:
    found = Started(tmp_path, how, "thread")
    assert found.about["code"] == 0
    assert found.err == "its thread\nits exit handler\n"
