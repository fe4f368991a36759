"""What exceptions and values say of themselves, as text that can be stored: nothing here raises, whatever they do."""

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

LINKS = 5  # exceptions of a chain, or of a group, that are told
FRAMES = 12  # of the end of a traceback that are looked at
TAIL = 6  # of those, the ones that are kept
BRIEF = 200  # characters of an exception that is not the first
WHOLE = (
    1000  # characters behind those that are kept: an address that is cut could hide its password no longer
)

_NAME = type.__dict__["__name__"]
_TRACEBACK = BaseException.__dict__["__traceback__"]
_CAUSE, _CONTEXT = BaseException.__dict__["__cause__"], BaseException.__dict__["__context__"]
_HIDDEN = BaseException.__dict__["__suppress_context__"]
_LIBRARIES = (sysconfig.get_path("stdlib"), "<frozen ")
_OURS = ("whimbrel/engine/", "whimbrel/domain/", "whimbrel/workers/")


def storable(text: str, most: int) -> str:
    """The first `most` characters of a text without passwords; what is no Unicode in it (lone surrogates) by its number."""
    # By the class: a subclass of str may do anything.
    begun = str.__getitem__(text, slice(most + WHOLE)).encode("utf-8", "backslashreplace").decode()
    return masked(begun)[:most]


def type_name(value: object) -> str:
    """The name of a value's class, whatever its metaclass says."""
    return storable(_NAME.__get__(type(value)), BRIEF)


def exception_message(error: BaseException, most: int = 2000) -> str:
    """What an exception says; where its own text cannot be read, what it was made with."""
    try:
        text = storable(str(error), most)
    except BaseException as fault:  # noqa: BLE001  whatever a user's class raises
        text = f"{_made_with(error, most)} (its text cannot be read: {type_name(fault)})"
    if isinstance(error, BaseExceptionGroup):
        text += f": {_members(error)}"
    return storable(text, most) or type_name(error)


def _made_with(error: BaseException, most: int) -> str:
    try:
        return storable(BaseException.__str__(error), most)
    except BaseException:  # noqa: BLE001  the same
        return type_name(error)


def _members(group: BaseExceptionGroup[BaseException]) -> str:
    """The exceptions that are no groups, as far as there is room."""

    def leaves(each: BaseException, depth: int) -> Iterator[BaseException]:
        if not isinstance(each, BaseExceptionGroup) or depth > LINKS:
            yield each
            return
        for inner in each.exceptions:
            yield from leaves(inner, depth + 1)

    found = list(islice(leaves(group, 0), LINKS + 1))
    told = [_brief(each) for each in found[:LINKS]]
    return "; ".join(told + ["..."] * (len(found) > LINKS))


def _brief(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return type_name(error)
    return f"{type_name(error)}: {exception_message(error, BRIEF)}"


def shown_value(value: object, most: int) -> str:
    """A value for people: the beginning of its repr, if it has one."""
    try:
        return storable(reprlib.repr(value), most)
    except BaseException:  # noqa: BLE001  a repr may do anything
        return "its repr cannot be read"


def exception_traceback(error: BaseException, most: int) -> str:
    """The author's own part of a traceback, and what led to the exception: the last `most` characters."""
    frames = [each for each in _frames(_TRACEBACK.__get__(error)) if not any(our in each[0] for our in _OURS)]
    text = "".join(_line(*each) for each in frames[-TAIL:])
    text += "".join(f"because of {_brief(each)}\n" for each in _reasons(error))
    return masked(text)[-most:]


def place_of_exception(error: BaseException) -> str:
    """Where it was raised: file, line and function of the innermost frame that is the author's own, no library's. Empty where there is none."""
    found, last, any_ = _TRACEBACK.__get__(error), None, None
    while found is not None:
        file = found.tb_frame.f_code.co_filename
        if not any(our in file for our in _OURS):
            any_ = found
            last = last if _of_a_library(file) else found
        found = found.tb_next
    last = last or any_
    if last is None:
        return ""
    code = last.tb_frame.f_code
    return (
        f"{code.co_filename.replace(os.sep, '/').rpartition('/')[2]}:{last.tb_lineno or 0} in {code.co_name}"
    )


@lru_cache(4096)
def _of_a_library(file: str) -> bool:
    return file.startswith(_LIBRARIES) or "/site-packages/" in file or "/dist-packages/" in file


def _frames(found: TracebackType | None) -> list[tuple[str, int, str]]:
    """File, line and function, of the innermost frames: by hand, for the traceback module reads sources as it goes."""
    frames: deque[tuple[str, int, str]] = deque(maxlen=FRAMES)
    while found is not None:
        code = found.tb_frame.f_code
        frames.append((code.co_filename, found.tb_lineno or 0, code.co_name))
        found = found.tb_next
    return list(frames)


def _line(file: str, line: int, function: str) -> str:
    try:
        source = linecache.getline(file, line).strip()
    except Exception:  # noqa: BLE001  names of files that no system has, sources that are no text
        source = ""
    summary = traceback.FrameSummary(file, line, function, lookup_line=False, line=source)
    return traceback.format_list([summary])[0]


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """Those that an exception was raised from, or while they were handled; each once, however they refer to one another."""
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
