"""What a message holds: the name of a batch, nothing of its documents."""

import json
import re

from whimbrel.domain.runs.batches import Batch, BatchPointer

VERSION = 1
LARGEST = 4096  # bytes; a pointer has about 50
CONTENT_TYPE = "application/json"

_TOKEN = re.compile(r"[0-9]{8}-[a-z0-9]{6}\.[0-9]{1,9}")


class NotOursError(ValueError):
    """A message that no Whimbrel of this version has sent. Its text is the reason."""


def encode(batch: Batch | BatchPointer) -> bytes:
    return json.dumps({"v": VERSION, "batch": batch.token}, separators=(",", ":")).encode()


def decode(body: bytes) -> str:
    """The token of the batch. Raises NotOursError."""
    if len(body) > LARGEST:
        raise NotOursError(f"{len(body)} bytes are no pointer to a batch")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise NotOursError("not JSON") from None
    if not isinstance(found, dict) or "v" not in found:
        raise NotOursError("not a pointer to a batch")
    if found["v"] != VERSION or isinstance(found["v"], bool):
        raise NotOursError(f"pointer of version {str(found['v'])[:20]}, and this is version {VERSION}")
    token = found.get("batch")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise NotOursError("no name of a batch")
    return token
