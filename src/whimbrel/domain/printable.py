"""Text of documents, functions and servers as it may be shown: what would act on a terminal can be read instead."""

from itertools import chain

# Letters and marks, says Unicode, that nobody sees: joiners, fillers, selectors of variants.
_UNSEEN = frozenset(
    map(
        chr,
        chain(
            (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
            range(0x180B, 0x1810),
            range(0xFE00, 0xFE10),
            range(0xE0100, 0xE01F0),
        ),
    )
)


def counted(number: int, noun: str) -> str:
    """`1 batch`, `2 batches`, `1,234 failures`."""
    plural = f"{noun}es" if noun.endswith(("ch", "s", "x")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def visible(text: str, kept: str = "\n\t") -> str:
    """A text with an escape, as Python writes it, for each character that acts on a terminal or cannot be seen.

    Controls, format characters (those of bidirectional text too), lone surrogates, line separators, odd blanks. `kept`: those that stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if _harmless(each) or each in kept else _escape(each) for each in text)


def _harmless(each: str) -> bool:
    return each.isprintable() and each not in _UNSEEN


def _escape(each: str) -> str:
    return each.encode("unicode_escape").decode()
