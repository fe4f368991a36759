"""What is said of a dependency that is down: one plain sentence to whoever asks, the whole of it in the log."""

import threading
import time

import structlog

from whimbrel.errors import (
    AWAY,
    EMBEDDED_AWAY,
    EMBEDDED_FULL,
    FULL,
    BrokerRefused,
    BrokerUnavailable,
    WhimbrelError,
)

log = structlog.get_logger("whimbrel.api")

AGAIN = 10.0  # seconds after which the same is logged again: dashboards ask every second
EMBEDDED = {AWAY: EMBEDDED_AWAY, FULL: EMBEDDED_FULL}


class OutageMessages:
    """`embedded`: whether MongoDB is Whimbrel's own."""

    def __init__(self, *, embedded: bool) -> None:
        self._embedded, self._lock = embedded, threading.Lock()
        self._said, self._at = "", float("-inf")

    def told(self, error: WhimbrelError, lost: str = "") -> str:
        """The sentence. `lost`: why the embedded MongoDB cannot be started again, where that is known."""
        sentence = error.short
        if self._embedded and not isinstance(error, BrokerUnavailable | BrokerRefused):
            sentence = EMBEDDED.get(sentence, sentence)
            sentence = lost or sentence
        self._log(sentence, error)
        return sentence

    def _log(self, sentence: str, error: WhimbrelError) -> None:
        now = time.monotonic()
        with self._lock:
            if sentence == self._said and now - self._at < AGAIN:
                return
            self._said, self._at = sentence, now
        log.warning("a dependency is down", said=sentence, code=error.code, reason=str(error))
