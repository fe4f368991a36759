"""The program: its commands, and how it ends."""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from whimbrel import __version__
from whimbrel.cli import (
    adjusting,
    controlling,
    demo,
    planning,
    pruning,
    running,
    scaffold,
    scheduling,
    serve,
    serving,
    showing,
    undoing,
    verifying,
)
from whimbrel.cli.interrupts import INTERRUPTED, Interrupts
from whimbrel.cli.options import Once
from whimbrel.cli.screen import Screen
from whimbrel.cli.streams import open_streams
from whimbrel.errors import WhimbrelError

USAGE = 64  # exit code of a command line that cannot be understood (EX_USAGE)

EXITS = """[bold]Exit codes:[/bold]

0 completed, or done · 2 completed with failures, a plan with objections, or a verification that found faults · 3 the run failed · 4 the run was cancelled · 5 a verification found no fault, but changes by others since

1 another error · 64 usage or settings · 65 migration or filter · 66 unknown name or id · 67 collection · 68, 69 the run's state forbids it · 77 preflight warns

70 MongoDB does not answer · 71 MongoDB refuses, or the run paused itself · 72 no embedded MongoDB

73 RabbitMQ does not answer · 74 RabbitMQ refuses · 76 the port is busy

130 interrupted: nothing is lost, resume goes on
"""

EXAMPLES: dict[str, tuple[Callable[..., int], list[str]]] = {
    "demo": (demo.demo, ["demo", "demo --documents 1000000 --keep"]),
    "new": (scaffold.new, ["new split-name", "new split-name --directory migrations"]),
    "migrations": (showing.migrations, ["migrations --migrations split_name.py", "migrations --json"]),
    "plan": (
        planning.plan,
        [
            "plan some-model",
            "plan split-name --migrations split_name.py --sample 200 --documents 10",
            "plan split-name --migrations split_name.py --json > plan.json",
        ],
    ),
    "run": (
        running.run,
        [
            "run some-model",
            "run split-name --migrations split_name.py --limit 100",
            "run split-name --migrations split_name.py --rate 2000 --max-memory 1G",
            'run split-name --migrations split_name.py --filter \'{"country": "NL"}\' --json > run.json',
        ],
    ),
    "status": (
        showing.status,
        ["status", "status --watch", "status 20261231-abc234", "status --json --limit 1"],
    ),
    "pause": (controlling.pause, ["pause", "pause 20261231-abc234"]),
    "resume": (running.resume, ["resume", "resume 20261231-abc234", "resume 20261231-abc234 --detach"]),
    "set": (
        adjusting.set_,
        ["set 20261231-abc234 --rate 500", "set 20261231-abc234 --no-rate --priority 8"],
    ),
    "cancel": (controlling.cancel, ["cancel", "cancel 20261231-abc234"]),
    "failures": (
        showing.failures,
        ["failures", "failures 20261231-abc234 --documents --limit 10"],
    ),
    "retry": (running.retry, ["retry", "retry 20261231-abc234 --group 1f3a5c7e"]),
    "rollback": (
        undoing.roll_back,
        ["rollback", "rollback 20261231-abc234 --yes --rate 2000"],
    ),
    "cleanup": (undoing.clean_up, ["cleanup", "cleanup 20261231-abc234", "cleanup 20261231-abc234 --yes"]),
    "verify": (
        verifying.verify,
        [
            "verify",
            "verify 20261231-abc234 --all --rate 20000",
            "verify 20261231-abc234 --json",
        ],
    ),
    "prune": (pruning.prune, ["prune", "prune --dry-run", "prune --days 30 --seconds 600 --yes"]),
    "serve": (serve.serve, ["serve", "serve --no-workers --migrations split_name.py"]),
    "worker": (
        serving.worker,
        ["worker", "worker --workers 8 --migrations split_name.py", "worker --queues priority"],
    ),
    "workers": (showing.workers, ["workers", "workers --json"]),
}

app = typer.Typer(
    name="whimbrel",
    epilog=EXITS,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, (_command, _examples) in EXAMPLES.items():
    _lines = "\n\n".join(f"whimbrel {each}" for each in _examples)
    app.command(_name, cls=Once, epilog=f"[bold]Examples:[/bold]\n\n{_lines}")(_command)
app.add_typer(scheduling.app, name="schedule")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"whimbrel {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
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
    """Carry out the command line, and end with the exit code that says how it went."""
    open_streams()
    code = carry_out()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _unread()
    except OSError as error:
        Screen().error(f"Standard output: {error.strerror or error}.")
        code = _unread()
    sys.exit(code)


def carry_out() -> int:
    """The exit code of the command line, carried out."""
    screen = Screen()
    try:
        with Interrupts():
            return int(app(standalone_mode=False) or 0)
    except WhimbrelError as error:
        screen.error(str(error))
        return error.exit_code
    except typer.TyperException as error:
        screen.error(f"{error.format_message().rstrip('.')}. See: {_help()}")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _unread()
    except OSError as error:
        screen.error(f"{error.filename or 'The system'}: {error.strerror or error}.")
        return 1


def _help() -> str:
    named = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] in EXAMPLES else ""
    return f"whimbrel {named} --help".replace("  ", " ")


def _unread() -> int:
    """Whoever read our standard output has stopped; Python shall not complain of that at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    main()
