"""Sessions of people who have logged in to the dashboard. The ledger keeps them, so every instance accepts them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A session that holds. `token`: the fingerprint of the token that it was begun with. `scope`: of that token, then: for people, as the token decides."""

    token: str
    scope: str


class LoginSessions(Protocol):
    """The sessions, by the hash of the secret that a browser has of each. Times are the server's."""

    def begin(self, key: str, logged_in: LoggedIn, *, who: str, seconds: float) -> None:
        """Stores a session that ends when it was not used for so long. Of one token, the newest ones are kept."""
        ...

    def use(self, key: str, *, seconds: float) -> LoggedIn | None:
        """Returns a session that has not ended, and lets it last for so long from now; None where there is none."""
        ...

    def holding(self, keys: Iterable[str]) -> set[str]:
        """Returns which of these sessions have not ended. They do not last longer for it."""
        ...

    def end(self, key: str) -> None: ...
