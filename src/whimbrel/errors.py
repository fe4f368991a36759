"""All errors that Whimbrel raises on purpose, with one root, and sentences that say what to do.

Adapters turn their drivers' errors into these, so that other code does not depend on a driver.
`code` is for machines (the REST API's `code`), `exit_code` for the command line, and
`remedy` says what a run does on the error.
"""

from enum import StrEnum
from typing import ClassVar, Self

from whimbrel.masking import masked

SHORT = 300  # characters of a sentence
AWAY = "MongoDB does not answer: check that it runs, and that MONGODB_URI is right."
FULL = "The disk of MongoDB is full: free some space there."
# Parts of messages, of the system and of any driver, about a host without an address, and about failed TLS.
NO_ADDRESS = (
    "Name or service not known",
    "No address associated with hostname",
    "nodename nor servname",
    "name resolution",
)
NO_TLS = ("[SSL", "SSL handshake failed", "certificate verify failed")
EMBEDDED_AWAY = "The embedded MongoDB does not answer: it is being started again."
EMBEDDED_FULL = "The disk of the embedded MongoDB is full: free some space."


class Remedy(StrEnum):
    """What a run does about an error (docs/protocol.md, "Troubles")."""

    AGAIN = "again"  # it will pass: try the same a little later
    SMALLER = "smaller"  # it took too long: try with fewer documents
    STOP = "stop"  # the batch was taken over or asked back: write nothing more
    RECORD = "record"  # a document is at fault: record a failure of it, or of the statement
    WAIT = "wait"  # wait as long as it takes; the run's message says so
    PAUSE = "pause"  # a person must look first


class WhimbrelError(Exception):
    """The root of all errors. Its text is one sentence for the person who must act on it, without passwords of addresses.

    `code` is its name in answers of the REST API, `exit_code` that of the command line.

    >>> from whimbrel import Migration, WhimbrelError
    >>> try:
    ...     Migration(name="Split Name", collection="people", update={"$set": {"a": 1}})
    ... except WhimbrelError as error:
    ...     print(error.code, error.exit_code)
    definition_invalid 65
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    remedy: ClassVar[Remedy] = Remedy.PAUSE
    plain: str = ""  # one short sentence without the words of drivers and servers; empty: not given

    def __init__(self, *args: object) -> None:
        super().__init__(*(masked(argument) if isinstance(argument, str) else argument for argument in args))

    def in_short(self, plain: str) -> Self:
        """Adds a short sentence for people; the complete text is for the log."""
        self.plain = masked(plain)
        return self

    @property
    def short(self) -> str:
        """One plain sentence."""
        return self.plain or _first_sentence(str(self))


def _first_sentence(text: str) -> str:
    first, full_stop, _ = text.partition(". ")
    sentence = first + full_stop.strip()
    return sentence if len(sentence) <= SHORT else f"{sentence[:SHORT]}..."


class SettingsInvalid(WhimbrelError):
    """An environment variable or option has a value that cannot be used."""

    code = "settings_invalid"
    exit_code = 64


class DefinitionInvalid(WhimbrelError):
    """A migration is defined wrongly, or the file that holds it cannot be loaded. Its text names the migration and the fix.

    >>> from whimbrel import DefinitionInvalid, Migration
    >>> try:
    ...     Migration(name="empty", collection="people")
    ... except DefinitionInvalid as error:
    ...     print(error)
    Migration 'empty' needs either an update or a function: give update=..., or decorate a function with @migration.
    """

    code = "definition_invalid"
    exit_code = 65


class Untranslatable(WhimbrelError):
    """An update by operators that no pipeline expresses exactly. `operator`: the one that is in the way."""

    code = "untranslatable"
    exit_code = 65

    def __init__(self, operator: str, text: str) -> None:
        super().__init__(text)
        self.operator = operator


class FilterRefused(WhimbrelError):
    """A filter that cannot be read, or that cannot select documents in a repeatable way."""

    code = "filter_refused"
    exit_code = 65


class MigrationUnknown(WhimbrelError):
    """No migration of that name is loaded."""

    code = "migration_unknown"
    exit_code = 66


class RunUnknown(WhimbrelError):
    """No run of that id is in the ledger."""

    code = "run_unknown"
    exit_code = 66


class GroupUnknown(WhimbrelError):
    """No failures of that group are in the run."""

    code = "group_unknown"
    exit_code = 66


class CursorInvalid(WhimbrelError):
    """Not what a list gave out as the place where its next page begins."""

    code = "invalid"
    exit_code = 64


class CollectionUnsuitable(WhimbrelError):
    """The collection is not there, or is of a kind that cannot be migrated."""

    code = "collection_unsuitable"
    exit_code = 67


class WarningsRefused(WhimbrelError):
    """Preflight warned, and the caller takes warnings for errors, or said no when asked."""

    code = "warnings_refused"
    exit_code = 77


class StateForbids(WhimbrelError):
    """The run's state does not allow what was asked."""

    code = "state_forbids"
    exit_code = 68


class CollectionBusy(StateForbids):
    """Another run works on the collection."""

    code = "collection_busy"
    exit_code = 69


class DatabaseUnreachable(WhimbrelError):
    """No answer from MongoDB within the time limit."""

    code = "database_unreachable"
    exit_code = 70


class DatabaseRefused(WhimbrelError):
    """MongoDB answered, and said no: credentials, permissions, version, disk."""

    code = "database_refused"
    exit_code = 71


class LedgerFormat(DatabaseRefused):
    """The ledger is of a format that this program cannot work with now."""

    code = "ledger_format"


class EmbeddedUnavailable(WhimbrelError):
    """The embedded MongoDB cannot be started here."""

    code = "embedded_unavailable"
    exit_code = 72


class EmbeddedMissing(EmbeddedUnavailable):
    """There is no embedded MongoDB in this home, and what was asked makes none."""

    code = "embedded_missing"


class Systemic(WhimbrelError):
    """Not one document's fault: the run must pause until a person has looked (permissions, disk)."""

    code = "systemic"
    exit_code = 71


class CollectionReplaced(Systemic):
    """The collection of that name is not the one that the run began with, or there is none."""

    code = "collection_replaced"
    exit_code = 67


class LedgerIncomplete(Systemic):
    """Rows of the ledger are gone: what was planned and what is there do not add up."""

    code = "ledger_incomplete"


class Transient(WhimbrelError):
    """Will pass by itself: network, failover, write conflict. Tried again; no attempt of a document's."""

    code = "transient"
    exit_code = 70
    remedy = Remedy.AGAIN


class LeaseLost(WhimbrelError):
    """The batch is no longer ours; whatever we would still write is a no-op by its fence."""

    code = "lease_lost"
    remedy = Remedy.STOP


class Refused(WhimbrelError):
    """A statement was refused for the sake of a document in it."""

    code = "refused"
    remedy = Remedy.RECORD


class TooSlow(Transient):
    """The time limit of a statement ended it. Where nothing can be made smaller, waiting is all that is left."""

    code = "too_slow"
    remedy = Remedy.SMALLER


class PortBusy(WhimbrelError):
    """The port that the API shall listen on cannot be used."""

    code = "port_busy"
    exit_code = 76


class BrokerUnavailable(Transient):
    """RabbitMQ does not take pointers now: away, full, or blocked by an alarm. Nothing is lost; the run waits."""

    code = "broker_unavailable"
    exit_code = 73
    remedy = Remedy.WAIT


class BrokerRefused(WhimbrelError):
    """RabbitMQ answered, and cannot be used: credentials, permissions, version, a queue of another make."""

    code = "broker_refused"
    exit_code = 74
    remedy = Remedy.AGAIN  # another process may be let in
