"""The README's picture: what a terminal shows of a real run, as an SVG that needs nothing from elsewhere. `make picture`.

It needs tmux, which is the terminal.
"""

import io
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymongo import MongoClient
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from whimbrel.mongo.embedded import embedded

PICTURE = Path(__file__).parent / "terminal.svg"
COLUMNS, LINES = 110, 80
DOCUMENTS = 50_000
PROMPT = r"PS1='\[\e[32m\]$\[\e[0m\] '"
MIGRATION = """\
from whimbrel import SKIP, migration


@migration(collection="people", filter={"name": {"$exists": True}})
def split_name(person):
    first, _, last = person["name"].partition(" ")
    if not last:
        return SKIP
    return {"$set": {"first": first, "last": last}, "$unset": {"name": ""}}
"""
COMMANDS = ("whimbrel run split-name --undo --yes", "whimbrel verify")
ADVANCE = 12.2  # of one letter in rich's picture
SECONDS = 180.0  # that a command may take
DARK = TerminalTheme(
    (22, 27, 34), (201, 209, 217),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)],
    [(110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65), (121, 192, 255), (210, 168, 255), (86, 212, 221), (240, 246, 252)],
)  # fmt: skip


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "people.py").write_text(MIGRATION, encoding="utf-8")
        with embedded(folder / ".whimbrel") as uri:
            seed(uri)
            shown = session(folder)
    PICTURE.write_text(drawn(shown), encoding="utf-8")
    sys.stderr.write(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes\n")
    return 0


def seed(uri: str) -> None:
    """People, of whom some have no surname, and a few something else for a name."""
    names = ["Ada Lovelace", "Alan Turing", "Plato", "Grace Hopper", "Edsger Dijkstra"]
    with MongoClient[dict[str, object]](uri) as client:
        client["whimbrel"]["people"].insert_many(
            {"_id": number, "name": number if number % 9000 == 8999 else names[number % 5]}  # noqa: PLR2004
            for number in range(DOCUMENTS)
        )


def session(folder: Path) -> str:
    """What stands on the screen after the commands, with its colours."""
    with terminal(folder) as tmux:
        for number, command in enumerate(COMMANDS, 1):
            tmux("send-keys", f"{command}; touch done-{number}", "Enter")
            end = time.monotonic() + SECONDS
            while not (folder / f"done-{number}").exists():
                if time.monotonic() > end:
                    raise TimeoutError(command)
                time.sleep(0.1)
        time.sleep(0.5)  # until the prompt is there
        return re.sub(r"; touch done-\d", "", tmux("capture-pane", "-e", "-p"))


@contextmanager
def terminal(folder: Path, columns: int = COLUMNS, lines: int = LINES) -> "Iterator[Tmux]":
    """A terminal of its own, with a shell in the folder."""
    (folder / "prompt").write_text(PROMPT, encoding="utf-8")
    tmux = Tmux(folder)
    tmux("new-session", "-d", "-x", str(columns), "-y", str(lines), "bash --noprofile --rcfile prompt -i")
    try:
        yield tmux
    finally:
        tmux("kill-server")


class Tmux:
    def __init__(self, folder: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "TMPDIR")}
        self._environment = {
            **kept, "RETRY_DELAY": "100",  # the picture is of the work, not of waiting
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "TERM": "xterm-256color",
            "WHIMBREL_MIGRATIONS": "people.py",
        }  # fmt: skip
        self._folder, self._socket = folder, f"picture-{secrets.token_hex(4)}"

    def __call__(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, *arguments]
        return subprocess.run(  # noqa: S603
            command, env=self._environment, cwd=self._folder, check=True, capture_output=True, text=True
        ).stdout


def drawn(shown: str) -> str:
    """The picture. Its letters are whatever monospace the reader has: rich would fetch them from another host."""
    lines = shown.rstrip().splitlines()
    if re.sub(r"\x1b\[[\d;]*m", "", lines[-1]).strip() == "$":  # the prompt for what comes next
        lines.pop()
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    svg = console.export_svg(title="whimbrel", theme=DARK, unique_id="terminal")
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return re.sub(r'x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)" ([^>]*)>((?:&#160;)+)', _moved, svg)


def _moved(found: re.Match[str]) -> str:
    """A text without the blanks at its beginning, further to the right: some programs drop such blanks."""
    x, y, length, rest, blanks = found.groups()
    by = blanks.count(";") * ADVANCE
    return f'x="{float(x) + by:g}" y="{y}" textLength="{float(length) - by:g}" {rest}>'


if __name__ == "__main__":
    sys.exit(main())
