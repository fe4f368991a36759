"""`mongo`: open the MongoDB that the other commands use, or start a program with its address."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from whimbrel.bootstrap import check_addresses, database
from whimbrel.cli.arguments.database_address import Create, left_running_at, say_where, with_database
from whimbrel.cli.arguments.options import Json, begin
from whimbrel.cli.commands.uri import uri
from whimbrel.cli.foreground.interrupts import Interrupts

SHELL = "mongosh"
# The address contains the password, and everybody can see command lines, so it is passed in the environment.
CONNECT = "db = connect(process.env.MONGODB_URI).getSiblingDB(process.env.MONGODB_DB_NAME)"
GUIDANCE = """With Python:       whimbrel mongo -- python load.py, where load.py has MongoClient(os.environ["MONGODB_URI"])
With mongoimport:  whimbrel mongo -- sh -c 'echo "uri: $MONGODB_URI" | mongoimport --config /dev/stdin --collection people people.json'
With others:       give them the address above. It has the password of the database in it."""


def mongo(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- PROGRAM", help=f"program to start in place of {SHELL}"),
    ] = None,
    create: Create = False,
    json: Json = False,
) -> int:
    """Open the MongoDB that Whimbrel works with in mongosh, or start another program with its address in MONGODB_URI."""
    if json and not command:
        return uri(create=create, json=True)
    settings, screen = begin(json=json)
    program = list(command or ())
    if not program and (shell := shutil.which(SHELL)):
        program = [shell, "--quiet", "--nodb", "--shell", "--eval", CONNECT]
    if not program and not screen.answerable:
        with Interrupts():
            sys.stdout.write(left_running_at(settings, screen, create=create) + "\n")
        screen.say(GUIDANCE)
        return 0
    check_addresses(settings)
    with Interrupts(), database(settings, create=create) as embedded_address:
        address = with_database(embedded_address, settings)
        say_where(screen, settings)
        if program:
            return _run_program(program, {"MONGODB_URI": address, "MONGODB_DB_NAME": settings.database})
        sys.stdout.write(address + "\n")
        sys.stdout.flush()
        screen.say(f"{SHELL} is not installed.\n{GUIDANCE}")
        if settings.mongodb_uri is None:
            screen.say("The embedded MongoDB runs as long as this does: end it with Ctrl-C.")
            threading.Event().wait()
        return 0


def _run_program(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a program and returns its exit code. It handles Ctrl-C itself while it runs."""
    with subprocess.Popen(words, env={**os.environ, **environment}) as process:  # noqa: S603  the user's own program
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
            signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code
