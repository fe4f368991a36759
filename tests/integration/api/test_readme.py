"""The README's quick start over HTTP: its own lines, run as they stand there, on a server for which nothing is configured."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.servers.serve import Serve

README = Path(__file__).parents[3] / "README.md"


def lines() -> str:
    """The fenced block of the section."""
    _, _, section = README.read_text(encoding="utf-8").partition("## Over HTTP\n")
    found = re.search(r"```bash\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def answers(text: str) -> list[dict[str, Any]]:
    """The JSON objects in what was printed, in their order."""
    decoder, found, at = json.JSONDecoder(), [], text.find("{")
    while at >= 0:
        value, end = decoder.raw_decode(text, at)
        found.append(value)
        at = text.find("{", end)
    return found


def test_the_quick_start_of_the_readme(tmp_path: Path) -> None:
    with Serve({}, tmp_path, "--workers", "1") as it:
        script = lines().replace("localhost:3000", f"127.0.0.1:{it.port}")
        assert script.count(str(it.port)) == lines().count("curl")
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script], capture_output=True, text=True, timeout=120, check=False
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ready, seeded, status, *events, counted = answers(done.stdout)
    assert ready["status"] == "ready"
    assert seeded["stats"]["documentsInserted"] == 100
    run = status["migration"]["migrationId"]
    assert events
    assert {each["migrationId"] for each in events} == {run}
    assert done.stdout.count("event: end\n") == 1
    assert (events[-1]["status"], events[-1]["succeeded"], events[-1]["progress"]) == (
        "completed",
        100,
        100.0,
    )
    assert counted["count"] == 100
