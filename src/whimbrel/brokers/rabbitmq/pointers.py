"""Encodes and decodes messages, which contain the name of a batch and nothing of its documents."""

import json
import re

from whimbrel.domain.runs.batches import Batch, BatchPointer

VERSION = 1
LARGEST = 4096  # bytes; a pointer has about 50
CONTENT_TYPE = "application/json"

_TOKEN = re.compile(r"[0-9]{8}-[a-z0-9]{6}\.[0-9]{1,9}")


class NotOursError(ValueError):
    """The message was not sent by a Whimbrel of this version. The error's text is the reason."""


def encode(batch: Batch | BatchPointer) -> bytes:
    return json.dumps({"v": VERSION, "batch": batch.token}, separators=(",", ":")).encode()


def decode(body: bytes) -> str:
    """Returns the token of the batch. Raises NotOursError."""
    if len(body) > LARGEST:
        raise NotOursError(f"{len(body)} bytes are no pointer to a batch")
    try:
        pointer = json.loads(body)
    except (ValueError, RecursionError):
        raise NotOursError("not JSON") from None
    if not isinstance(pointer, dict) or "v" not in pointer:
        raise NotOursError("not a pointer to a batch")
    if pointer["v"] != VERSION or isinstance(pointer["v"], bool):
        raise NotOursError(f"pointer of version {str(pointer['v'])[:20]}, and this is version {VERSION}")
    token = pointer.get("batch")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise NotOursError("no name of a batch")
    return token
