"""Finds the Chromium that the browser tests drive."""

import os
import shutil
from pathlib import Path
from typing import Final

CHROMIUM: Final = "CHROMIUM"  # the environment variable that names another one than the system's
CHROMIUM_COMMAND: Final = "apt-get install chromium"
# The shell without windows needs less than half of the other's CPU time.
_NAMES: Final = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)


class BrowserMissing(Exception):
    """No Chromium is installed, and the sentence says what to do."""


def find_chromium() -> Path:
    """The program. Raises BrowserMissing."""
    if named := os.environ.get(CHROMIUM):
        if os.access(named, os.X_OK) and Path(named).is_file():
            return Path(named)
        raise BrowserMissing(
            f"{CHROMIUM} is {named}, which is no program: name Chromium's, such as /usr/bin/chromium."
        )
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise BrowserMissing(
            f"Chromium is not installed: run `{CHROMIUM_COMMAND}` as root on Debian, else name its program in {CHROMIUM}."
        )
    return Path(found)
