"""The child that loads migrations and tells their definitions: `python -m whimbrel.workers.definitions PIPE SOURCE`.

It is started whenever a command needs them, so it imports no more than loading needs.
"""

import base64
import json
import os
import sys
from dataclasses import asdict, astuple, fields
from typing import Any

from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.uuids import named
from whimbrel.domain.migrations.migration import Definition
from whimbrel.errors import DefinitionInvalid
from whimbrel.workers.migration_loader import load

BEGINS = ">"  # before the name of a file that is loaded next


def main() -> None:
    """Write the definitions of the source given, or why they cannot be loaded, to the pipe given."""
    answers, (source, without) = int(sys.argv[1]), json.loads(sys.argv[2])
    os.set_inheritable(answers, False)
    try:
        found = load(source, without, lambda file: _say(answers, BEGINS + json.dumps(file)))
        rows = {
            name: {
                **{each.name: named(getattr(it.definition, each.name)) for each in fields(Definition)},
                "code": asdict(it.definition.code),
            }
            for name, it in found.items()
        }
        broken = [[_text(each) for each in astuple(it)] for it in found.broken]
        empty = [_text(each) for each in found.empty]
        told: dict[str, Any] = {"definitions": rows, "broken": broken, "empty": empty}
    except DefinitionInvalid as error:
        told = {"error": _text(str(error))}
    _say(answers, base64.b64encode(encoded(told)).decode())


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _say(answers: int, line: str) -> None:
    with os.fdopen(answers, "w", closefd=False) as stream:
        stream.write(line + "\n")


if __name__ == "__main__":
    main()
