"""Writes lines to a new file, or to standard output; a file that is not complete does not stay."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from whimbrel.errors import WhimbrelError

STANDARD_OUTPUT = "-"


class ExportRefused(WhimbrelError):
    """The file cannot be written."""

    code = "export_refused"
    exit_code = 64


class ExportFailed(WhimbrelError):
    """Writing the file has failed."""

    code = "export_failed"


def write_export(name: str, pages: Iterable[str]) -> int:
    """Writes pages of lines. Returns how many lines there are. Raises ExportRefused, ExportFailed; BrokenPipeError where nobody reads standard output."""
    if name == STANDARD_OUTPUT:
        return _write_to_standard_output(pages)
    if not name:
        raise ExportRefused("The name of the file is empty: name a file, or - for standard output.")
    path = Path(name)
    if path.is_dir():
        raise ExportRefused(f"{name} is a folder: name a file, or - for standard output.")
    if path.exists() and not path.is_file():  # a device or a pipe
        return _write(path, name, pages)
    if path.exists():
        raise ExportRefused(f"{name} exists, and is left as it is: name another file, or remove it first.")
    return _write_new(path, name, pages)


def _write_to_standard_output(pages: Iterable[str]) -> int:
    lines = 0
    try:
        for page in pages:
            sys.stdout.write(page)
            lines += page.count("\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _failed("Standard output", error, lines) from error
    return lines


def _write_new(path: Path, name: str, pages: Iterable[str]) -> int:
    """Writes a file beside the one that is wanted, which gets its name when it is complete."""
    try:
        number, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(number)
    except OSError as error:
        raise ExportRefused(f"{name} cannot be written: {error.strerror or error}. Name a file in a folder that can be written to.") from error  # fmt: skip
    try:
        lines = _write(Path(part), name, pages)
        os.chmod(part, 0o666 & ~_umask())  # noqa: PTH101  as any new file; a temporary one is closed to others
        try:
            os.link(part, path)  # fails where a file of that name has come meanwhile
        except FileExistsError as error:
            raise ExportRefused(f"{name} exists by now, and is left as it is: name another file.") from error
        except OSError:  # a file system without links
            os.replace(part, path)  # noqa: PTH105
        return lines
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)  # noqa: PTH108


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write(path: Path, name: str, pages: Iterable[str]) -> int:
    lines = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for page in pages:
                file.write(page)
                lines += page.count("\n")
    except OSError as error:
        raise _failed(name, error, lines) from error
    return lines


def _failed(name: str, error: OSError, lines: int) -> ExportFailed:
    return ExportFailed(
        f"{name}: {error.strerror or error}, after about {lines:,} lines. What was written is not complete; free some space or name another place, and export again."
    )
