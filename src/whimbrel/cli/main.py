"""The program: its commands, and how it ends."""

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
from whimbrel.errors import WhimbrelError
from whimbrel.logs import own_process
from whimbrel.plain_wording import plain

UNREAD = 1  # exit code where nobody reads the answer
USAGE = 64  # exit code of a command line that cannot be understood (EX_USAGE)

EXITS = """[bold]Exit codes:[/bold]

0 completed, or done · 2 completed with failures, a plan with objections, or a verification that found faults · 3 the run failed · 4 the run was cancelled · 5 a verification found no fault, but changes by others since

1 another error · 64 usage or settings · 65 migration or filter · 66 unknown name or id · 67 collection · 68, 69 the run's state forbids it · 77 preflight warns

70 MongoDB does not answer · 71 MongoDB refuses, or the run paused itself

72 no embedded MongoDB · 73 RabbitMQ does not answer · 74 RabbitMQ refuses

76 the port is busy · 130 interrupted: nothing is lost, resume goes on
"""

SCHEDULE = "schedule"
ONE_LINE = "10000"  # columns that no description fills


def program(words: Sequence[str]) -> typer.Typer:
    """The program as these words of a command line need it: no other command is imported than the one that they name."""
    app = typer.Typer(
        name="whimbrel", cls=Group, epilog=EXITS, rich_markup_mode="rich", pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip
    app.callback(invoke_without_command=True)(whimbrel)
    for name, it in COMMANDS.items():
        shown = "\n\n".join(f"whimbrel {each}" for each in it.examples)
        command = _imported(name, it.function) if name in words else _told(it.summary)
        app.command(name, cls=SingleOptionCommand, epilog=f"[bold]Examples:[/bold]\n\n{shown}")(command)
    if SCHEDULE in words:
        app.add_typer(_imported("schedule", "app"), name=SCHEDULE)
    else:
        app.command(SCHEDULE)(
            _told("Start runs by cron. `whimbrel worker` and `whimbrel serve` carry schedules out.")
        )
    return app


def completed_words() -> list[str]:
    """The words of a command line that a shell asks to complete; of commands that they name it must know the options."""
    if "_WHIMBREL_COMPLETE" not in os.environ:
        return []
    os.environ["COLUMNS"] = (
        ONE_LINE  # what is said of a completion stays on its line, for the next one is another completion
    )
    return f"{os.environ.get('COMP_WORDS', '')} {os.environ.get('_TYPER_COMPLETE_ARGS', '')}".split()


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"whimbrel.cli.commands.{module}"), name)


def _told(summary: str) -> Callable[[], int]:
    """Stands for a command that is only listed."""

    def command() -> int:
        raise AssertionError(summary)  # words that carry it out name it

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
    """As `whimbrel.cli.entry.main`, where this module is imported already."""
    from whimbrel.cli import entry  # noqa: PLC0415  it imports this one

    entry.main()


def ended() -> int:
    """The exit code of the command line, carried out, when its answer is written."""
    open_streams()
    own_process()
    code = carry_out()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = UNREAD
    except OSError as error:
        Screen().error(f"Standard output: {error.strerror or error}.")
        code = UNREAD
    return code


def carry_out() -> int:
    """The exit code of the command line, carried out."""
    screen = Screen()
    Interrupts.unwound = False
    try:
        # Imports the command: nothing is there yet that Ctrl-C had to put in order.
        told = program([*sys.argv[1:], *completed_words()])
        gc.enable()
        with Interrupts():
            code = int(told(prog_name="whimbrel", standalone_mode=False) or 0)
        if code == INTERRUPTED and Interrupts.unwound:
            screen.say("Interrupted.")
        return code  # noqa: TRY300
    except WhimbrelError as error:
        screen.error(str(error))
        return error.exit_code
    except typer.TyperException as error:
        said = plain(error.format_message())
        screen.error(f"{said}{'' if said.endswith('?') else '.'} See: {_help(error)}")
        return USAGE
    except KeyboardInterrupt:
        screen.say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        return UNREAD
    except OSError as error:
        screen.error(f"{error.filename or 'The system'}: {error.strerror or error}.")
        return 1


def _help(error: typer.TyperException) -> str:
    """Of the command that could not be understood."""
    if context := getattr(error, "ctx", None):
        return f"{context.command_path} --help"
    named = [
        each for each in sys.argv[1:2] if each in COMMANDS
    ]  # a value that is missing comes without its context
    return " ".join(["whimbrel", *named, "--help"])
