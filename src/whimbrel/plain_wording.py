"""Rewords messages of the libraries that read settings and command lines."""

import re

_WORDS = (
    (r"Value error, ", ""),
    (r"Input should be a valid integer\b.*", "give a whole number"),
    (r"Input should be a valid number\b.*", "give a number"),
    (r"Input should be a valid boolean\b.*", "give true or false"),
    (r"Input should be a finite number", "give a number"),
    (r"Input should be greater than or equal to (\S+)", r"give \1 or more"),
    (r"Input should be less than or equal to (\S+)", r"give \1 or less"),
    (r"Input should be greater than (\S+)", r"give more than \1"),
    (r"Input should be less than (\S+)", r"give less than \1"),
    (r"Input should be ('[^']*')$", r"give \1"),
    (r"Input should be ('.*')", r"give one of \1"),
    (
        r"String should match pattern '\^\((.*)\)\$'",
        lambda match: f"give one of {match[1].replace('|', ', ')}",
    ),
    (
        r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)",
        r"Nothing can be done with \1 here: leave it out",
    ),
)


def plain(text: str) -> str:
    """Returns such a message as a sentence that says what to give, without its full stop."""
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return re.sub(r"(\?)?\.*$", r"\1", text)
