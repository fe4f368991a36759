"""Signs what is sent, so that receivers can tell that it comes from here, was not changed, and is not an old one sent again."""

import hashlib
import hmac
from collections.abc import Mapping


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Returns `v1=` and the HMAC-SHA256 over the timestamp, a full stop, and the body."""
    signed = timestamp.encode() + b"." + body
    return f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def headers_of(
    *, secret: str, timestamp: str, body: bytes, event_id: str, type_: str, version: str
) -> Mapping[str, str]:
    """Returns the headers of a request."""
    return {
        "Content-Type": "application/json", "User-Agent": f"whimbrel/{version}", "Whimbrel-Event": type_, "Whimbrel-Event-Id": event_id,
        "Whimbrel-Timestamp": timestamp, "Whimbrel-Signature": signature(secret, timestamp, body),
    }  # fmt: skip
