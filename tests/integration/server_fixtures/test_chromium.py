"""The browser of the tests is found, or what is missing is said."""

import shutil
from pathlib import Path

import pytest

from tests.servers import chromium, install


def test_without_a_browser_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(chromium.CHROMIUM, raising=False)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(chromium.BrowserMissing, match="apt-get install chromium"):
        chromium.find_chromium()


def test_a_browser_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "chrome"
    monkeypatch.setenv(chromium.CHROMIUM, str(program))
    assert install.main() == 1  # and nothing is installed in its place
    assert f"CHROMIUM is {program}, which is no program" in capsys.readouterr().err
    program.touch(mode=0o755)
    assert chromium.find_chromium() == program
    assert install.main() == 0
