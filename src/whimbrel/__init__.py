"""Whimbrel migrates millions of MongoDB documents in batches, without a stop, through crashes."""

from whimbrel.domain.context import Context
from whimbrel.domain.migration import SKIP, Migration, migration
from whimbrel.errors import DefinitionInvalid, WhimbrelError

__all__ = ["SKIP", "Context", "DefinitionInvalid", "Migration", "WhimbrelError", "migration"]
__version__ = "0.1.0"
