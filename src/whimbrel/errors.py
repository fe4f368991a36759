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
    """A migration is defined wrongly, or its file cannot be loaded. The text names the migration and the fix.

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
    """An update by operators that no pipeline expresses exactly. `operator`: the one that prevents it."""

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
    """No migration with that name is loaded."""

    code = "migration_unknown"
    exit_code = 66


class RunUnknown(WhimbrelError):
    """No run with that id is in the ledger."""

    code = "run_unknown"
    exit_code = 66


class CellUnknown(WhimbrelError):
    """The strip of a run's key space has no such cell, or the run no such leg."""

    code = "cell_unknown"
    exit_code = 66


class GroupUnknown(WhimbrelError):
    """The run has no failures of that group."""

    code = "group_unknown"
    exit_code = 66


class SignalUnknown(WhimbrelError):
    """The database's health has no signal of that name."""

    code = "signal_unknown"
    exit_code = 66


class ThresholdsRefused(WhimbrelError):
    """A signal of the database's health cannot have these thresholds."""

    code = "thresholds_refused"
    exit_code = 64


class StagesRefused(WhimbrelError):
    """A run cannot go in these stages."""

    code = "stages_refused"
    exit_code = 64


class CursorInvalid(WhimbrelError):
    """The cursor is not one that a list has returned for its next page."""

    code = "invalid"
    exit_code = 64


class CollectionUnsuitable(WhimbrelError):
    """The collection does not exist, or is of a kind that cannot be migrated."""

    code = "collection_unsuitable"
    exit_code = 67


class WarningsRefused(WhimbrelError):
    """Preflight warned, and the caller treats warnings as errors, or declined when asked."""

    code = "warnings_refused"
    exit_code = 77


class StateForbids(WhimbrelError):
    """The run's state does not allow the request."""

    code = "state_forbids"
    exit_code = 68


class CollectionBusy(StateForbids):
    """Another run works on the collection."""

    code = "collection_busy"
    exit_code = 69


class DependencyIncomplete(StateForbids):
    """A migration that this one depends on is not complete."""

    code = "dependency_incomplete"


class AlreadyStarted(StateForbids):
    """Somebody else has just started what was to be started once."""

    code = "already_started"


class DatabaseUnreachable(WhimbrelError):
    """MongoDB did not answer within the time limit."""

    code = "database_unreachable"
    exit_code = 70


class DatabaseRefused(WhimbrelError):
    """MongoDB answered, but cannot be used: credentials, permissions, version, disk."""

    code = "database_refused"
    exit_code = 71


class LedgerFormat(DatabaseRefused):
    """This program cannot work with the ledger's format now."""

    code = "ledger_format"


class EmbeddedUnavailable(WhimbrelError):
    """The embedded MongoDB cannot be started here."""

    code = "embedded_unavailable"
    exit_code = 72


class EmbeddedMissing(EmbeddedUnavailable):
    """There is no embedded MongoDB in this home, and this command does not create one."""

    code = "embedded_missing"


class Systemic(WhimbrelError):
    """An error that no document causes: the run must pause until a person has looked (permissions, disk)."""

    code = "systemic"
    exit_code = 71


class CollectionReplaced(Systemic):
    """The collection with that name is not the one that the run began with, or does not exist."""

    code = "collection_replaced"
    exit_code = 67


class ChangesLost(WhimbrelError):
    """MongoDB cannot tell any more what has changed in a collection since a time: only a look at all documents can."""

    code = "changes_lost"
    remedy = Remedy.AGAIN


class LedgerIncomplete(Systemic):
    """Rows of the ledger are missing: its batches do not match what was planned."""

    code = "ledger_incomplete"


class Transient(WhimbrelError):
    """An error that will pass by itself: network, failover, write conflict. It is retried, and does not count as an attempt."""

    code = "transient"
    exit_code = 70
    remedy = Remedy.AGAIN


class LeaseLost(WhimbrelError):
    """The batch is no longer ours; its fence makes any further write a no-op."""

    code = "lease_lost"
    remedy = Remedy.STOP


class Refused(WhimbrelError):
    """MongoDB refused a statement because of a document in it."""

    code = "refused"
    remedy = Remedy.RECORD


class TooSlow(Transient):
    """A statement exceeded its time limit. Where it cannot be made smaller, it can only be tried again."""

    code = "too_slow"
    remedy = Remedy.SMALLER


class PortBusy(WhimbrelError):
    """The API cannot listen on its port."""

    code = "port_busy"
    exit_code = 76


class BrokerUnavailable(Transient):
    """RabbitMQ does not accept pointers now: away, full, or blocked by an alarm. Nothing is lost; the run waits."""

    code = "broker_unavailable"
    exit_code = 73
    remedy = Remedy.WAIT


class BrokerRefused(WhimbrelError):
    """RabbitMQ answered, but cannot be used: credentials, permissions, version, a queue with other arguments."""

    code = "broker_refused"
    exit_code = 74
    remedy = Remedy.AGAIN  # another process may be let in
