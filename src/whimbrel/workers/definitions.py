"""The child that loads migrations and reports their definitions: `python -m whimbrel.workers.definitions PIPE SOURCE`.

It is started whenever a command needs them, so it imports only what loading needs.
"""

import base64
import json
import os
import sys
from dataclasses import asdict, astuple, fields
from typing import Any

from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.uuids import tag_uuids
from whimbrel.domain.migrations.definition import Definition
from whimbrel.errors import DefinitionInvalid
from whimbrel.workers.migration_loader import load

BEGINS = ">"  # before the name of the file that is loaded next


def main() -> None:
    """Writes the definitions of the given source, or why they cannot be loaded, to the given pipe."""
    answers, (source, without) = int(sys.argv[1]), json.loads(sys.argv[2])
    os.set_inheritable(answers, False)
    try:
        catalog = load(source, without, lambda file: _say(answers, BEGINS + json.dumps(file)))
        rows = {
            name: {
                **{
                    option.name: tag_uuids(getattr(migration.definition, option.name))
                    for option in fields(Definition)
                },
                "code": asdict(migration.definition.code),
                "dependencies": [asdict(dependency) for dependency in migration.definition.dependencies],
            }
            for name, migration in catalog.items()
        }
        broken = [[_text(text) for text in astuple(broken_file)] for broken_file in catalog.broken]
        empty = [_text(text) for text in catalog.empty]
        sources = {name: _text(source) for name, source in catalog.sources.items()}
        answer: dict[str, Any] = {"definitions": rows, "broken": broken, "empty": empty, "sources": sources}
    except DefinitionInvalid as error:
        answer = {"error": _text(str(error))}
    _say(answers, base64.b64encode(encoded(answer)).decode())


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _say(answers: int, line: str) -> None:
    with os.fdopen(answers, "w", closefd=False) as stream:
        stream.write(line + "\n")


if __name__ == "__main__":
    main()
