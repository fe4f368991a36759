"""The table of commands says what the commands themselves say; and nothing is imported that a command line does not need."""

import importlib
import inspect
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from whimbrel.cli import main
from whimbrel.cli.registry import COMMANDS
from whimbrel.logs import log_unhandled_errors


@pytest.mark.parametrize("name", list(COMMANDS))
def test_what_is_listed_of_a_command_is_the_beginning_of_its_help(name: str) -> None:
    it = COMMANDS[name]
    function = getattr(importlib.import_module(f"whimbrel.cli.commands.{name}"), it.function)
    beginning = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
    assert it.summary == beginning
    assert all(each.split()[0] == name for each in it.examples)


def imported(*words: str) -> set[str]:
    """The modules that a command line imports."""
    code = (
        "import sys; from whimbrel.cli import main; sys.argv[1:] = "
        f"{list(words)!r}\nmain.run_and_flush()\nprint(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("--version",)], ids=" ".join)
def test_what_only_tells_loads_no_driver(words: tuple[str, ...]) -> None:
    heavy = {"pymongo", "fastapi", "pydantic", "aio_pika", "structlog", "whimbrel.bootstrap"}
    assert not imported(*words) & heavy


def test_the_package_itself_loads_nothing() -> None:
    """Ctrl-C is heard from the first lines of the program on; what comes before them is short."""
    code = (
        "import sys; before = set(sys.modules); import whimbrel.cli.entry; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {each for each in done.stdout.split() if each.startswith("whimbrel")}
    assert ours == {"whimbrel", "whimbrel.cli", "whimbrel.cli.entry"}
    assert "typing" not in done.stdout.split()


def functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """Every command, those of `schedule` too."""
    for name, it in COMMANDS.items():
        yield name, getattr(importlib.import_module(f"whimbrel.cli.commands.{name}"), it.function)
    for each in importlib.import_module("whimbrel.cli.commands.schedule").app.registered_commands:
        yield f"schedule {each.name}", each.callback


@pytest.mark.parametrize(
    ("name", "function"), list(functions()), ids=lambda it: it if isinstance(it, str) else ""
)
def test_every_command_takes_json(name: str, function: Callable[..., object]) -> None:
    assert "json" in inspect.signature(function).parameters


def completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """What bash is offered for the last of these words."""
    monkeypatch.setenv("COLUMNS", "80")  # which completing changes, for its process
    monkeypatch.setenv("_WHIMBREL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(("whimbrel", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setattr(sys, "argv", ["whimbrel"])
    with pytest.raises(SystemExit) as ended:
        main.run_command_line()
    assert not ended.value.code
    return capsys.readouterr().out.split()


def test_a_shell_completes_commands_options_and_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("WHIMBREL_MIGRATIONS", "MONGODB_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/some.py").write_text(
        "raise SystemExit('nobody runs it')\none = Migration(name='one-more', update=1)\n@migration(collection='c')\ndef split_name(it): ...\n"
    )
    (tmp_path / "broken.py").write_text("def (")
    assert set(completed(monkeypatch, capsys, "")) >= {*COMMANDS, "schedule"}
    assert completed(monkeypatch, capsys, "res") == ["resume"]
    assert {"--detach", "--workers", "--migrations"} <= set(completed(monkeypatch, capsys, "run", "--"))
    assert completed(monkeypatch, capsys, "status", "--state", "comp") == [
        "completed",
        "completed_with_failures",
    ]
    assert completed(monkeypatch, capsys, "run", "") == ["some-model"]
    given = ("--migrations", "folder", "--migrations", "broken.py")
    assert completed(monkeypatch, capsys, "run", *given, "") == ["one-more", "some-model", "split-name"]
    monkeypatch.setenv("WHIMBREL_MIGRATIONS", "folder,broken.py")
    assert completed(monkeypatch, capsys, "plan", "split") == ["split-name"]
    assert completed(monkeypatch, capsys, "pause", "") == []
    assert set(completed(monkeypatch, capsys, "schedule", "")) >= {"list", "set"}
    assert not (tmp_path / ".whimbrel").exists()


def test_what_is_said_of_a_completion_stays_on_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "_WHIMBREL_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COLUMNS": "80",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "whimbrel run --")
    monkeypatch.setattr(sys, "argv", ["whimbrel"])
    with pytest.raises(SystemExit):
        main.run_command_line()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("--migrations\t") and len(line) > 100 for line in lines)
    assert all(line.startswith("--") for line in lines)


def test_a_shell_is_told_how_to_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setattr(sys, "argv", ["whimbrel", "--show-completion", "bash"])
    with pytest.raises(SystemExit):
        main.run_command_line()
    assert "_WHIMBREL_COMPLETE=complete_bash" in capsys.readouterr().out


NAMES = [
    *COMMANDS,
    "schedule",
    *(f"schedule {name}" for name in importlib.import_module("whimbrel.cli.commands.schedule").EXAMPLES),
]


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[str, str, int]:
    monkeypatch.setattr(sys, "argv", ["whimbrel", *words])
    code = main.run_command_line()
    captured = capsys.readouterr()
    return captured.out, captured.err, code


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_80_columns_and_its_examples_can_be_copied(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text, _, code = said(monkeypatch, capsys, *name.split(), "--help")
    lines = [line.strip() for line in text.splitlines()]
    assert not code
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "<bool>" not in text, "a flag takes no value"
    assert "[[" not in text
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")
    assert {
        each for each in re.findall(r"--[a-z][a-z-]+", text.partition("Examples:")[0]) if each not in page
    } <= {"--help"}
    group, _, within = name.partition(" ")
    if group in COMMANDS:
        examples = [f"whimbrel {each}" for each in COMMANDS[group].examples]
    else:
        examples = (
            [
                f"whimbrel schedule {each}"
                for each in importlib.import_module("whimbrel.cli.commands.schedule").EXAMPLES[within][1]
            ]
            if within
            else []
        )
    assert {line for each in examples for line in each.split("\n\n")} <= set(lines)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("runn",), "No such command 'runn'. Did you mean 'run', 'prune'? See: whimbrel --help"),
        (("run", "x", "--limit", "0"), "Invalid value for '--limit': give 1 or more. See: whimbrel run --help"),
        (("run", "x", "--limit", "many"), "Invalid value for '--limit': give a whole number. See: whimbrel run --help"),
        (("demo", "--invalid", "1.5"), "Invalid value for '--invalid': give 1 or less. See: whimbrel demo --help"),
        (("run", "x", "--undo", "yes"), "Nothing can be done with yes here: leave it out. See: whimbrel run --help"),
        (("failures", "--state", "bad"), "Invalid value for '--state': 'bad' is not one of 'dead', 'open', 'resolved'. See: whimbrel failures --help"),
        (("schedule", "listing"), "No such command 'listing'. Did you mean 'list'? See: whimbrel schedule --help"),
        (("schedule", "set"), "Missing argument 'NAME'. See: whimbrel schedule set --help"),
        (("status", "--since"), "Option '--since' requires an argument. See: whimbrel status --help"),
    ],
)  # fmt: skip
def test_a_command_line_that_cannot_be_understood_is_told_in_a_sentence(
    words: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, told, code = said(monkeypatch, capsys, *words)
    assert (out, told, code) == ("", f"error: {sentence}\n", main.USAGE)


def test_settings_that_cannot_be_used_are_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "BATCH_SIZE": "many",
        "LOG_LEVEL": "loud",
        "API_TIMEOUT": "0",
        "ENABLE_SCHEDULER": "perhaps",
    }.items():
        monkeypatch.setenv(name, value)
    _, told, code = said(monkeypatch, capsys, "status")
    assert code == main.USAGE
    assert told == (
        "error: These settings cannot be used: API_TIMEOUT='0': give more than 0; BATCH_SIZE='many': give a whole number; "
        "ENABLE_SCHEDULER='perhaps': give true or false; LOG_LEVEL='loud': give one of debug, info, warning, error.\n"
    )


def test_what_the_driver_warns_of_is_a_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", lambda *_: None)
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    log_unhandled_errors()
    warnings.showwarning(
        "Unknown option: foo. Refer to docstring.", UserWarning, "/x/pymongo/uri_parser.py", 385
    )
    assert capsys.readouterr().err == "note: MongoDB's driver says: Unknown option: foo.\n"
