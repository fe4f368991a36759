"""`uri`: print the address of the MongoDB that commands work with."""

import sys

from whimbrel.cli.arguments.database_address import Create, left_running_at
from whimbrel.cli.arguments.options import Json, begin
from whimbrel.cli.foreground.interrupts import Interrupts


def uri(create: Create = False, json: Json = False) -> int:
    """Print the address of the MongoDB that Whimbrel works with, password included."""
    settings, screen = begin(json=json)
    with Interrupts():
        address = left_running_at(settings, screen, create=create)
    if json:
        screen.answer(
            {"uri": address, "database": settings.database, "embedded": settings.mongodb_uri is None}
        )
    else:
        sys.stdout.write(address + "\n")
    return 0
