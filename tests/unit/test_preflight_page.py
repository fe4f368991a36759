"""docs/preflight.md lists every check, with the levels that the code gives it."""

import ast
import re
from collections import defaultdict
from pathlib import Path

from whimbrel.domain.runs.preflight_findings import CheckName

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([a-z-]+)` \| ([a-z, ]+) \|", re.MULTILINE)


def given() -> dict[str, set[str]]:
    """The levels by check, from the calls `error(Check.X, ...)`, `findings_of(Check.X, ...)` in the source."""
    found: dict[str, set[str]] = defaultdict(set)
    source = ROOT / "src/whimbrel"
    files = [
        *source.glob("mongo/preflight/*.py"),
        *source.glob("engine/operating/*preflight.py"),
        source / "engine/operating/sequence.py",
    ]
    for call in (
        node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
    ):
        first = call.args[0] if call.args else None
        if (
            isinstance(call.func, ast.Name)
            and isinstance(first, ast.Attribute)
            and ast.unparse(first.value) == "CheckName"
        ):
            level = {"findings_of": "unknown", "information": "info"}.get(call.func.id, call.func.id)
            found[CheckName[first.attr]].add(level)
    return found


def test_the_page_lists_every_check_and_its_levels() -> None:
    listed = {
        name: set(levels.split(", "))
        for name, levels in ROW.findall((ROOT / "docs/preflight.md").read_text())
    }
    code = given()
    assert set(listed) == {str(check) for check in CheckName} == set(code)
    for name, levels in listed.items():
        assert levels == code[name], name
