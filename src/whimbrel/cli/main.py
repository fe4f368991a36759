"""Builds the program from its commands, runs one, and turns errors into exit codes."""

if __name__ == "__main__":
    from whimbrel.cli import entry

    entry.main()  # which imports this module by its name, and ends the process

import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from whimbrel import __version__
from whimbrel.cli.arguments.single_options import Group, SingleOptionCommand
from whimbrel.cli.foreground.interrupts import INTERRUPTED, Interrupts
from whimbrel.cli.output.screen import Screen
from whimbrel.cli.registry import COMMANDS
from whimbrel.cli.standard_streams import open_streams
from whimbrel.domain.text.printable import is_whole
from whimbrel.errors import WhimbrelError
from whimbrel.logs import log_unhandled_errors
from whimbrel.plain_wording import plain

UNREAD = 1  # exit code where the answer is not read
USAGE = 64  # exit code of a command line that cannot be understood (EX_USAGE)

EXITS = """[bold]Exit codes:[/bold]

0 completed, or done · 2 completed with failures, a plan with objections, or a verification that found faults · 3 the run failed · 4 the run was cancelled · 5 a verification found no fault, but changes by others since

1 another error · 64 usage or settings · 65 migration or filter · 66 unknown name or id · 67 collection · 68, 69 the run's state forbids it · 77 preflight warns

70 MongoDB does not answer · 71 MongoDB refuses, or the run paused itself

72 no embedded MongoDB · 73 RabbitMQ does not answer · 74 RabbitMQ refuses

ensure: 10 not started · 11 at work · 12 paused or failed · 13 complete, not verified

76 the port is busy · 130 interrupted: nothing is lost, resume goes on
"""

SCHEDULE = "schedule"
ONE_LINE = "10000"  # columns: more than any description has


def program(words: Sequence[str]) -> typer.Typer:
    """Builds the program for these words of a command line, and imports only the command that they name."""
    app = typer.Typer(
        name="whimbrel", cls=Group, epilog=EXITS, rich_markup_mode="rich", pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip
    app.callback(invoke_without_command=True)(whimbrel)
    for name, command_entry in COMMANDS.items():
        examples = "\n\n".join(f"whimbrel {example}" for example in command_entry.examples)
        command = (
            _imported(name, command_entry.function) if name in words else _listed_only(command_entry.summary)
        )
        app.command(name, cls=SingleOptionCommand, epilog=f"[bold]Examples:[/bold]\n\n{examples}")(command)
    if SCHEDULE in words:
        app.add_typer(_imported("schedule", "app"), name=SCHEDULE)
    else:
        app.command(SCHEDULE)(
            _listed_only("Start runs by cron. `whimbrel worker` and `whimbrel serve` carry schedules out.")
        )
    return app


def completed_words() -> list[str]:
    """Returns the words of a command line that a shell asks to complete, as the options of the commands they name are needed."""
    if "_WHIMBREL_COMPLETE" not in os.environ:
        return []
    os.environ["COLUMNS"] = (
        ONE_LINE  # a completion's description must stay on its line: the next is another one
    )
    return f"{os.environ.get('COMP_WORDS', '')} {os.environ.get('_TYPER_COMPLETE_ARGS', '')}".split()


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"whimbrel.cli.commands.{module}"), name)


def _listed_only(summary: str) -> Callable[[], int]:
    """Returns a placeholder for a command that is only listed."""

    def command() -> int:
        raise AssertionError(summary)  # to run it, the words name it, so it is imported

    command.__doc__ = summary
    return command


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"whimbrel {__version__}\n")
        raise typer.Exit


def whimbrel(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  Typer calls _version
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    """Migrate millions of MongoDB documents in batches, without a stop, through crashes."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def main() -> None:
    """Does what `whimbrel.cli.entry.main` does, where this module is already imported."""
    from whimbrel.cli import entry  # noqa: PLC0415  it imports this one

    entry.main()


def run_and_flush() -> int:
    """Runs the command line, writes out its answer, and returns its exit code."""
    open_streams()
    log_unhandled_errors()
    code = run_command_line()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = UNREAD
    except OSError as error:
        Screen().error(f"Standard output: {error.strerror or error}.")
        code = UNREAD
    return code


def run_command_line() -> int:
    """Runs the command line and returns its exit code."""
    screen = Screen()
    Interrupts.unwound = False
    try:
        # Imports the command, before there is anything that Ctrl-C must clean up.
        built = program([*sys.argv[1:], *completed_words()])
        gc.enable()
        with Interrupts():
            code = int(built(prog_name="whimbrel", standalone_mode=False) or 0)
        if code == INTERRUPTED and Interrupts.unwound:
            screen.say("Interrupted.")
        return code  # noqa: TRY300
    except WhimbrelError as error:
        screen.error(str(error))
        return error.exit_code
    except typer.TyperException as error:
        message = plain(error.format_message())
        screen.error(f"{message}{'' if message.endswith('?') else '.'} See: {_help(error)}")
        return USAGE
    except KeyboardInterrupt:
        screen.say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        return UNREAD
    except OSError as error:
        screen.error(f"{error.filename or 'The system'}: {error.strerror or error}.")
        return 1
    except UnicodeEncodeError:  # MongoDB was asked for a name that nothing can have
        odd = [word for word in sys.argv[1:] if not is_whole(word)]
        if not odd:
            raise
        screen.error(f"{odd[0]!r} is no text in UTF-8, so nothing has this name: write it anew.")
        return USAGE


def _help(error: typer.TyperException) -> str:
    """Returns the help command for the command that could not be understood."""
    if context := getattr(error, "ctx", None):
        return f"{context.command_path} --help"
    # The error of a missing value has no context.
    command_names = [word for word in sys.argv[1:2] if word in COMMANDS]
    return " ".join(["whimbrel", *command_names, "--help"])
