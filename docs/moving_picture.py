"""The moving picture of `whimbrel top`: what a terminal shows while keys are pressed, on real runs, as an SVG. `make picture`.

It needs tmux, which is the terminal. The SVG has no script and needs nothing from elsewhere; a reader who wants no motion gets one frame.
"""

import io
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from picture import DARK, SECONDS, terminal
from pymongo import MongoClient
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from whimbrel.mongo.embedded import embedded

PICTURE = Path(__file__).parent / "top.svg"
COLUMNS, LINES = 100, 24
WIDE, HIGH, EDGE = 8.4, 18, 12  # of a letter, a line and the frame, in pixels
FRAME = 0.4  # seconds
MIGRATIONS = """\
import time
from whimbrel import SKIP, migration


@migration(collection="people", filter={"name": {"$exists": True}})
def split_name(person):
    time.sleep(0.001)
    first, _, last = person["name"].partition(" ")
    if not last:
        return SKIP
    return {"$set": {"first": first, "last": last}, "$unset": {"name": ""}}


@migration(collection="orders")
def order_totals(order):
    time.sleep(0.001)
    return {"$set": {"total": sum(order["items"])}}


@migration(collection="products")
def price_in_cents(product):
    return {"$set": {"cents": round(product["price"] * 100)}}
"""
BEFORE = "whimbrel run price-in-cents --yes"
STARTED = (
    "whimbrel worker --workers 2 --concurrency 1 > worker.log 2>&1 &", "whimbrel run split-name --yes --detach", "whimbrel run order-totals --yes --detach --rate 700",
    "whimbrel run split-name --yes --detach",
)  # fmt: skip
# What is pressed, and for how many seconds it is looked at.
KEYS = (
    ("", 3.0), ("Down", 0.8), ("Enter", 3.5), ("Escape", 1.2), ("Up", 0.8), ("p", 2.5), ("y", 2.5), ("r", 1.5), ("y", 3.0), ("/", 0.8),
    *((letter, 0.4) for letter in "order"), ("Enter", 1.6), ("Escape", 1.2), ("s", 1.0), ("s", 1.4), ("w", 2.0), ("Escape", 1.0),
)  # fmt: skip
STILL = 11  # the frame for readers who want no motion: a run in detail


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "people.py").write_text(MIGRATIONS, encoding="utf-8")
        with embedded(folder / ".whimbrel") as uri:
            seed(uri)
            frames = list(recorded(folder))
    PICTURE.write_text(drawn(frames), encoding="utf-8")
    sys.stderr.write(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes, {len(frames)} frames\n")
    return 0


def seed(uri: str) -> None:
    names = ["Ada Lovelace", "Alan Turing", "Plato", "Grace Hopper", "Edsger Dijkstra"]
    with MongoClient[dict[str, object]](uri) as client:
        whimbrel = client["whimbrel"]
        # Some names are numbers: they fail.
        whimbrel["people"].insert_many(
            {"_id": number, "name": number if number % 900 == 899 else names[number % 5]}  # noqa: PLR2004
            for number in range(60_000)
        )
        whimbrel["orders"].insert_many({"_id": number, "items": [number % 7, 3]} for number in range(40_000))
        whimbrel["products"].insert_many({"_id": number, "price": number / 4} for number in range(20_000))


def recorded(folder: Path) -> Iterator[list[str]]:
    """Yields the lines of the terminal, FRAME seconds after one another."""
    with terminal(folder, COLUMNS, LINES) as tmux:
        for number, command in enumerate((BEFORE, *STARTED)):
            tmux("send-keys", f"{command}{'' if command.endswith('&') else ';'} touch done-{number}", "Enter")
            wait_for(lambda number=number: (folder / f"done-{number}").exists(), command)
        tmux("send-keys", "clear; whimbrel top", "Enter")
        wait_for(
            lambda: re.search(r"running +100% .* [1-9][\d,]+ ", tmux("capture-pane", "-p")), "whimbrel top"
        )
        for key, seconds in KEYS:
            if key:
                tmux("send-keys", key)
            for _ in range(max(1, round(seconds / FRAME))):
                time.sleep(FRAME)
                yield tmux("capture-pane", "-e", "-p").rstrip("\n").split("\n")
        tmux("send-keys", "q")
        tmux("send-keys", "kill %1; wait", "Enter")


def wait_for(condition: object, what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)


def drawn(frames: Sequence[Sequence[str]]) -> str:
    """The picture: each different row once, each frame a list of rows, all frames below one another, of which one is seen."""
    frames, shown = merged(frames)
    rows = {
        row: number
        for number, row in enumerate(dict.fromkeys(row for frame in frames for row in frame if plain(row)))
    }
    width, height = COLUMNS * WIDE + 2 * EDGE, LINES * HIGH + 2 * EDGE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="title">',
        '<title id="title">whimbrel top: runs at work, one of them in detail, paused and resumed</title>',
        f"<style>text{{font:14px ui-monospace,Menlo,Consolas,monospace;white-space:pre}}.b{{font-weight:700}}.u{{text-decoration:underline}}{motion(shown, height)}</style><defs>",
    ]
    parts += [f'<g id="r{number}">{row_of(row)}</g>' for row, number in rows.items()]
    background = colour(DARK.background_color)
    parts.append(
        f'</defs><rect width="{width:g}" height="{height:g}" rx="8" fill="{background}"/><g id="film">'
    )
    for number, frame in enumerate(frames):
        top = number * height + EDGE
        parts += [
            f'<use href="#r{rows[row]}" x="{EDGE}" y="{top + line * HIGH:g}"/>'
            for line, row in enumerate(frame)
            if row in rows
        ]
    return "".join([*parts, "</g></svg>\n"])


def motion(shown: Sequence[float], height: float) -> str:
    """Returns the rules that move the film: a frame at a time, for as long as it was seen."""
    total, moment, rules = sum(shown), 0.0, []
    for number, seconds in enumerate(shown):
        rules.append(f"{100 * moment / total:.2f}%{{transform:translateY(-{number * height:g}px)}}")
        moment += seconds
    still = min(STILL, len(shown) - 1) * height
    return (
        f"#film{{animation:film {total:.1f}s step-end infinite;transform:translateY(-{still:g}px)}}"
        f"@media (prefers-reduced-motion:reduce){{#film{{animation:none}}}}@keyframes film{{{''.join(rules)}}}"
    )


def merged(frames: Sequence[Sequence[str]]) -> tuple[list[Sequence[str]], list[float]]:
    """Returns the frames that differ from the one before, and for how long each is seen."""
    found: list[Sequence[str]] = []
    shown: list[float] = []
    for frame in frames:
        if found and list(found[-1]) == list(frame):
            shown[-1] += FRAME
        else:
            found.append(frame)
            shown.append(FRAME)
    return found, shown


def plain(row: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", row).strip()


def row_of(row: str) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=COLUMNS)
    column, parts = 0, []
    for segment in Segment.simplify(
        console.render(Text.from_ansi(row), console.options.update(no_wrap=True))
    ):
        text, style = segment.text.rstrip("\n"), segment.style or Style()
        fill, behind = colours(style)
        if behind:
            parts.append(
                f'<rect x="{column * WIDE:g}" width="{len(text) * WIDE:g}" height="{HIGH}" fill="{behind}"/>'
            )
        if text.strip():
            begin = len(text) - len(text.lstrip())
            seen = text.strip()
            names = "b" * bool(style.bold), "u" * bool(style.underline)
            bold = f' class="{" ".join(filter(None, names))}"' if any(names) else ""
            dim = ' opacity=".65"' if style.dim else ""
            parts.append(
                f'<text x="{(column + begin) * WIDE:g}" y="13.5" textLength="{len(seen) * WIDE:g}" lengthAdjust="spacingAndGlyphs" fill="{fill}"{bold}{dim}>{escape(seen)}</text>'
            )
        column += len(text)
    return "".join(parts)


def colours(style: Style) -> tuple[str, str]:
    """Returns the colour of the letters, and that behind them if there is one."""
    fore = (
        style.color.get_truecolor(DARK)
        if style.color and not style.color.is_default
        else DARK.foreground_color
    )
    behind = (
        style.bgcolor.get_truecolor(DARK, foreground=False)
        if style.bgcolor and not style.bgcolor.is_default
        else None
    )
    if style.reverse:
        fore, behind = behind or DARK.background_color, fore
    return colour(fore), "" if behind is None else colour(behind)


def colour(parts: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*parts)


if __name__ == "__main__":
    sys.exit(main())
