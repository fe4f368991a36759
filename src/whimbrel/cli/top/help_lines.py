"""What each key does."""

from collections.abc import Iterator, Sequence

from rich.text import Text as RichText

from whimbrel.cli.output.terminal_text import Text

KEYS: Sequence[tuple[str, str, str]] = (  # the keys, what they do, and the same in a word for the last line
    ("Up Down, k j", "select a run; in other views: scroll", ""),
    ("PgUp PgDn, Home End", "a screen up or down, to the first or last; PgDn at the end shows older runs, PgUp newer ones", ""),
    ("Enter", "show the run in detail; Esc or Left goes back", "Enter detail"),
    ("p", "pause the run, after a y", "p pause"),
    ("r", "resume the run, after a y; workers that are alive go on with it", "r resume"),
    ("x", "cancel the run for good, after the end of its id is typed", "x cancel"),
    ("/", "show only runs that have these words in id, migration, collection, state or kind; Esc shows all again", "/ filter"),
    ("s S", "sort the runs of this page by the next column; S turns the order round", "s sort"),
    ("a", "show all runs, those that have not ended, or all but completed ones", "a which"),
    ("w", "show the workers", "w workers"),
    ("?", "this help", "? help"),
    ("q, Ctrl-C", "quit; Ctrl-Z stops the view until fg", "q quit"),
    ("Ctrl-L", "draw the screen again", ""),
)  # fmt: skip
LAST = ("?", "q, Ctrl-C")
WIDE = 22  # columns of the keys


def help_lines() -> Iterator[RichText]:
    yield Text("Keys", "bold underline")
    for keys, meaning, _ in KEYS:
        yield Text.assemble((keys.ljust(WIDE), "bold"), meaning)
    yield Text()
    for sentence in (
        "share: the part of its speed that a run has. docs/health.md says what makes it less.",
        "done, docs/s, eta: as whimbrel status shows them. failed: documents that failed or conflict now.",
        "A line below a run says why it waits, goes slower, or has failed.",
        "Nothing is shown as it was without its age: the first line says where MongoDB does not answer.",
    ):
        yield Text(sentence)


def keys_line(width: int, only: Sequence[str] | None = None) -> RichText:
    """Returns the most important keys, as many as fit. `only`: of another screen than that of the runs, with the way back."""
    parts = [short for key, _, short in KEYS if short and (only is None or key in only)]
    # Help and the way out are said in any case.
    last = [short for key, _, short in KEYS if key in LAST]
    parts = ["Esc back"] * (only is not None) + [part for part in parts if part not in last]
    shown: list[str] = []
    for part in parts:
        if len("  ".join([*shown, part, *last])) > width:
            break
        shown.append(part)
    return Text("  ".join([*shown, *last]), "reverse")
