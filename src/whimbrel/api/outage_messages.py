"""Explains a dependency that is down: one plain sentence for clients, all of it in the log."""

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

AGAIN = 10.0  # seconds after which the same outage is logged again: dashboards ask every second
EMBEDDED = {AWAY: EMBEDDED_AWAY, FULL: EMBEDDED_FULL}


class OutageMessages:
    """Chooses and logs the sentences. `embedded`: whether MongoDB is Whimbrel's own."""

    def __init__(self, *, embedded: bool) -> None:
        self._embedded, self._lock = embedded, threading.Lock()
        self._last_sentence, self._logged_at = "", float("-inf")

    def sentence_for(self, error: WhimbrelError, lost: str = "") -> str:
        """Returns the sentence. `lost`: why the embedded MongoDB cannot be restarted, where that is known."""
        sentence = error.short
        if self._embedded and not isinstance(error, BrokerUnavailable | BrokerRefused):
            sentence = EMBEDDED.get(sentence, sentence)
            sentence = lost or sentence
        self._log(sentence, error)
        return sentence

    def _log(self, sentence: str, error: WhimbrelError) -> None:
        now = time.monotonic()
        with self._lock:
            if sentence == self._last_sentence and now - self._logged_at < AGAIN:
                return
            self._last_sentence, self._logged_at = sentence, now
        log.warning("a dependency is down", said=sentence, code=error.code, reason=str(error))
