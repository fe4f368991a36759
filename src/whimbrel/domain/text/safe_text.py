"""Text of exceptions and values that can be stored: nothing here raises, whatever they do."""

import linecache
import os
import reprlib
import sysconfig
import traceback
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from types import TracebackType

from whimbrel.masking import masked

LINKS = 5  # exceptions of a chain, or of a group, that are shown
FRAMES = 12  # at the end of a traceback that are examined
TAIL = 6  # of these, the ones that are kept
BRIEF = 200  # characters of every exception but the first
# Characters behind the kept ones that are masked too: in an address that is cut, a password could not be recognised.
MASKED_BEYOND = 1000

_NAME = type.__dict__["__name__"]
_TRACEBACK = BaseException.__dict__["__traceback__"]
_CAUSE, _CONTEXT = BaseException.__dict__["__cause__"], BaseException.__dict__["__context__"]
_HIDDEN = BaseException.__dict__["__suppress_context__"]
_LIBRARIES = (sysconfig.get_path("stdlib"), "<frozen ")
_OURS = ("whimbrel/engine/", "whimbrel/domain/", "whimbrel/workers/")


def storable(text: str, length: int) -> str:
    """Returns the first `length` characters of a text without passwords; lone surrogates are replaced by their numbers."""
    # Called on the class: a subclass of str may do anything.
    begun = str.__getitem__(text, slice(length + MASKED_BEYOND)).encode("utf-8", "backslashreplace").decode()
    return masked(begun)[:length]


def type_name(value: object) -> str:
    """Returns the name of a value's class, whatever its metaclass does."""
    return storable(_NAME.__get__(type(value)), BRIEF)


def exception_message(error: BaseException, length: int = 2000) -> str:
    """Returns the message of an exception; where its own text cannot be read, its arguments."""
    try:
        text = storable(str(error), length)
    except BaseException as fault:  # noqa: BLE001  a user's class may raise anything
        text = f"{_made_with(error, length)} (its text cannot be read: {type_name(fault)})"
    if isinstance(error, BaseExceptionGroup):
        text += f": {_members(error)}"
    return storable(text, length) or type_name(error)


def _made_with(error: BaseException, length: int) -> str:
    try:
        return storable(BaseException.__str__(error), length)
    except BaseException:  # noqa: BLE001  the same
        return type_name(error)


def _members(group: BaseExceptionGroup[BaseException]) -> str:
    """Returns the exceptions in a group that are not groups, as far as there is room."""

    def leaves(member: BaseException, depth: int) -> Iterator[BaseException]:
        if not isinstance(member, BaseExceptionGroup) or depth > LINKS:
            yield member
            return
        for inner in member.exceptions:
            yield from leaves(inner, depth + 1)

    first = list(islice(leaves(group, 0), LINKS + 1))
    texts = [_brief(member) for member in first[:LINKS]]
    return "; ".join(texts + ["..."] * (len(first) > LINKS))


def _brief(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return type_name(error)
    return f"{type_name(error)}: {exception_message(error, BRIEF)}"


def shown_value(value: object, length: int) -> str:
    """Returns a value for people: the beginning of its repr, if it has one."""
    try:
        return storable(reprlib.repr(value), length)
    except BaseException:  # noqa: BLE001  a repr may do anything
        return "its repr cannot be read"


def exception_traceback(error: BaseException, length: int) -> str:
    """Returns the author's own part of a traceback, and what led to the exception: the last `length` characters."""
    frames = [
        frame
        for frame in _frames(_TRACEBACK.__get__(error))
        if not any(own_folder in frame[0] for own_folder in _OURS)
    ]
    text = "".join(_line(*frame) for frame in frames[-TAIL:])
    text += "".join(f"because of {_brief(reason)}\n" for reason in _reasons(error))
    return masked(text)[-length:]


def place_of_exception(error: BaseException) -> str:
    """Returns where it was raised: file, line and function of the innermost frame of the author's own, not of a library. Empty where there is none."""
    step, last, innermost = _TRACEBACK.__get__(error), None, None
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if not any(own_folder in file for own_folder in _OURS):
            innermost = step
            last = last if _is_library(file) else step
        step = step.tb_next
    last = last or innermost
    if last is None:
        return ""
    code = last.tb_frame.f_code
    return (
        f"{code.co_filename.replace(os.sep, '/').rpartition('/')[2]}:{last.tb_lineno or 0} in {code.co_name}"
    )


@lru_cache(4096)
def _is_library(file: str) -> bool:
    return file.startswith(_LIBRARIES) or "/site-packages/" in file or "/dist-packages/" in file


def _frames(step: TracebackType | None) -> list[tuple[str, int, str]]:
    """Returns file, line and function of the innermost frames: by hand, because the traceback module reads source files."""
    frames: deque[tuple[str, int, str]] = deque(maxlen=FRAMES)
    while step is not None:
        code = step.tb_frame.f_code
        frames.append((code.co_filename, step.tb_lineno or 0, code.co_name))
        step = step.tb_next
    return list(frames)


def _line(file: str, line: int, function: str) -> str:
    try:
        source = linecache.getline(file, line).strip()
    except Exception:  # noqa: BLE001  impossible file names, sources that are not text
        source = ""
    summary = traceback.FrameSummary(file, line, function, lookup_line=False, line=source)
    return traceback.format_list([summary])[0]


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """Yields the exceptions that an exception was raised from, or while handling; each once, however they refer to one another."""
    seen = {id(error)}
    while len(seen) <= LINKS:
        cause = _CAUSE.__get__(error)
        if cause is None and not _HIDDEN.__get__(error):
            cause = _CONTEXT.__get__(error)
        if cause is None or id(cause) in seen:
            return
        seen.add(id(cause))
        yield cause
        error = cause
