"""Whimbrel migrates millions of MongoDB documents in batches, without a stop, through crashes."""

import importlib

TYPE_CHECKING = False  # importing typing's own takes time
if TYPE_CHECKING:
    from whimbrel.domain.migrations.context import Context
    from whimbrel.domain.migrations.migration import SKIP, Migration, migration
    from whimbrel.errors import DefinitionInvalid, WhimbrelError

__all__ = ["SKIP", "Context", "DefinitionInvalid", "Migration", "WhimbrelError", "migration"]
__version__ = "0.1.0"

_PLACES = {
    "SKIP": "domain.migrations.migration", "Context": "domain.migrations.context", "DefinitionInvalid": "errors", "Migration": "domain.migrations.migration",
    "WhimbrelError": "errors", "migration": "domain.migrations.migration",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Imports a public name on first use, so that the program can handle Ctrl-C in its first milliseconds."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    attribute = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    return attribute
