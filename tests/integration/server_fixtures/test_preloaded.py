"""A copy of the preloaded process is what a fresh interpreter is."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers import preloaded

ABOUT = """
import gc, json, locale, os, signal, sys, threading

about = {
    "name": __name__, "file": __file__, "argv": sys.argv, "orig": sys.orig_argv, "path": sys.path[0], "cwd": os.getcwd(),
    "environment": dict(os.environ), "leader": os.getsid(0) == os.getpid(), "threads": threading.active_count(), "gc": gc.isenabled(),
    "signals": {int(each): str(signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "streams": [(each.encoding, each.errors, each.line_buffering, each.fileno(), each.isatty()) for each in (sys.stdin, sys.stdout, sys.stderr)],
    "open": sorted(int(each) for each in os.listdir("/proc/self/fd")), "input": sys.stdin.read(), "locale": locale.getlocale(),
}
print(json.dumps(about))
"""
ENDS = {
    "of itself": ("print('out')", 0),
    "an exit code": ("import sys; print('out'); sys.exit(7)", 7),
    "a sentence": ("import sys; sys.exit('so it is')", 1),
    "an exception": ("print('out'); raise ValueError('so it is')", 1),
    "an exit handler and a thread": (
        "import atexit, threading, time\natexit.register(print, 'last')\nthreading.Thread(target=lambda: (time.sleep(0.05), print('first'))).start()",
        0,
    ),
    "Ctrl-C": ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    "SIGTERM": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
}
Run = Callable[..., subprocess.CompletedProcess[Any]]


@pytest.mark.parametrize("session", [False, True])
def test_it_knows_the_same_of_itself(tmp_path: Path, session: bool) -> None:
    script = tmp_path / "about.py"
    script.write_text(ABOUT)
    reader, writer = os.pipe()
    environment = {**os.environ, "NEW": "ünlike", "LOG_FORMAT": "json"}

    def said(run: Run) -> Any:
        with Path(os.devnull).open() as nothing:
            done = run(
                [sys.executable, script, "a", "b c"], env=environment, cwd=tmp_path, stdin=nothing, capture_output=True, text=True,
                pass_fds=[writer], start_new_session=session, check=True,
            )  # fmt: skip
        return json.loads(done.stdout)

    try:
        assert said(preloaded.run) == said(subprocess.run)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("how", ENDS)
def test_it_ends_as_ever(tmp_path: Path, how: str) -> None:
    text, code = ENDS[how]
    script = tmp_path / "ends.py"
    script.write_text(text)
    words = [sys.executable, str(script)]
    runs: list[Run] = [preloaded.run, subprocess.run]
    copied, fresh = (run(words, capture_output=True, text=True, check=False) for run in runs)
    assert (copied.returncode, copied.stdout) == (fresh.returncode, fresh.stdout)
    assert copied.returncode == code
    assert copied.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


def test_it_is_waited_for_killed_and_asked(tmp_path: Path) -> None:
    script = tmp_path / "waits.py"
    script.write_text("print('begun', flush=True)\ninput()")
    with preloaded.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        assert process.poll() == -signal.SIGKILL


def test_what_python_reads_when_it_starts_needs_a_fresh_one(tmp_path: Path) -> None:
    script = tmp_path / "seed.py"
    script.write_text("import sys; print(sys.flags.hash_randomization)")
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = preloaded.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.stdout == "0\n"
    assert (
        preloaded.run(["echo", "another program"], capture_output=True, text=True).stdout
        == "another program\n"
    )


KILLED = {
    "in a length": "s.sendall(b'\\0\\0')",
    "in a question": "s.sendall(b'\\0\\0\\0\\x09{')",
    "before it reads the answer": """
preloading.send(s, {"words": ["-m", "this"], "environment": dict(os.environ), "folder": "/", "session": False, "numbers": [0, 1, 2]}, [0, 1, 2])
select.select([s], [], [])
""",
}


@pytest.mark.parametrize("when", KILLED)
def test_one_that_is_killed_while_it_asks_leaves_the_others_alone(tmp_path: Path, when: str) -> None:
    script = tmp_path / "killed.py"
    head = "import os, select, signal\nfrom tests.servers import preloaded, preloading\ns = preloaded._template._connected()\n"
    script.write_text(f"{head}{KILLED[when]}\nos.kill(os.getpid(), signal.SIGKILL)\n")
    other = tmp_path / "other.py"
    other.write_text("print('out')")
    for _ in range(2):
        assert preloaded.run([sys.executable, script]).returncode == -signal.SIGKILL
        assert preloaded.run([sys.executable, other], capture_output=True, text=True).stdout == "out\n"


def test_one_that_is_interrupted_while_it_asks_goes_on_and_hears_the_ends_of_its_processes(
    tmp_path: Path,
) -> None:
    """Ctrl-C comes while it waits for an answer: the next answer is not taken for that one."""
    other = tmp_path / "other.py"
    other.write_text("import sys; sys.exit(7)")
    script = tmp_path / "interrupted.py"
    script.write_text(f"""
import sys
from tests.servers import preloaded, preloading

def interrupted(of):
    raise KeyboardInterrupt

first = preloaded.Popen([sys.executable, {str(other)!r}])
receive, preloading.receive = preloading.receive, interrupted
try:
    preloaded.Popen([sys.executable, {str(other)!r}])
except KeyboardInterrupt:
    preloading.receive = receive
second = preloaded.Popen([sys.executable, {str(other)!r}])
preloaded._template._socket.sendall(b"\\0\\0\\0\\1?")
preloaded._template._socket.close()
preloaded._template._owner = 0
preloaded._template._socket = None
print(first.wait(), second.wait(), preloaded.Popen([sys.executable, {str(other)!r}]).wait())
""")
    done = preloaded.run([sys.executable, script], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("7 7 7\n", 0), done.stderr
