"""Events and answers. Amounts are whole numbers of the smallest unit of their ledger: cents, hellers."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from walengine import _native
from walengine._codes import AccountFlags, CloseFlags, EventKind, GuardFlags, TransferFlags, Verdict
from walengine._ids import AnyId, account_id, event_id, new_id
from walengine._naming import Describe, Name
from walengine._native import Token

if TYPE_CHECKING:
    import numpy

__all__ = [
    "Account",
    "AccountsPage",
    "Close",
    "ClusterInfo",
    "ClusterStatus",
    "Decision",
    "Event",
    "Group",
    "Guard",
    "IdVerdict",
    "LogPage",
    "Node",
    "Opaque",
    "Other",
    "Outcome",
    "Record",
    "Replica",
    "Resolved",
    "ServerStatus",
    "Submitted",
    "Transfer",
    "Trouble",
    "chain",
    "decode",
]

_set = object.__setattr__


@dataclass(frozen=True, init=False, slots=True)
class Account:
    """An account: a request to create one, or its state.

    >>> anna = Account("anna", ledger=978, code=1, flags=AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS)
    >>> anna.id == account_id("anna"), anna.balance
    (True, 0)
    """

    #: Its id; the upper 32 bits are the book.
    id: int
    #: Asset and scale, chosen by the user, such as the ISO 4217 number of a currency.
    ledger: int
    #: Kind of account, chosen by the user.
    code: int
    flags: AccountFlags
    user_data_128: int
    user_data_64: int
    #: Reserved and moved. Zero in a request.
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    #: Number of changes. Zero in a request.
    version: int
    #: Log time of creation, in nanoseconds since 1970. Zero in a request.
    timestamp: int

    def __init__(
        self,
        id: AnyId,
        *,
        ledger: int,
        code: int,
        flags: int = 0,
        user_data_128: AnyId = 0,
        user_data_64: int = 0,
        debits_pending: int = 0,
        debits_posted: int = 0,
        credits_pending: int = 0,
        credits_posted: int = 0,
        version: int = 0,
        timestamp: int = 0,
    ) -> None:
        _set(self, "id", account_id(id))
        _set(self, "ledger", ledger)
        _set(self, "code", code)
        _set(self, "flags", AccountFlags(flags))
        _set(self, "user_data_128", event_id(user_data_128))
        _set(self, "user_data_64", user_data_64)
        _set(self, "debits_pending", debits_pending)
        _set(self, "debits_posted", debits_posted)
        _set(self, "credits_pending", credits_pending)
        _set(self, "credits_posted", credits_posted)
        _set(self, "version", version)
        _set(self, "timestamp", timestamp)

    @property
    def balance(self) -> int:
        """Credits less debits, posted."""
        return self.credits_posted - self.debits_posted

    def with_flags(self, flags: int) -> Account:
        """The same with other flags."""
        return replace(self, flags=AccountFlags(flags))

    def to_bytes(self) -> bytes:
        """Its 128 bytes."""
        return _native.encode_account(
            self.id,
            self.debits_pending,
            self.debits_posted,
            self.credits_pending,
            self.credits_posted,
            self.user_data_128,
            self.user_data_64,
            self.version,
            self.ledger,
            self.code,
            self.flags,
            self.timestamp,
        )


@dataclass(frozen=True, init=False, slots=True)
class Transfer:
    """A transfer of ``amount`` from one account to another. Its id is a new one unless it is given; to be able to
    send it again after a crash, give it one that you have stored.

    >>> rent = Transfer("anna", "landlord", 900_00, ledger=978, code=1, id="rent of May")
    >>> rent.amount, rent == decode(rent.to_bytes())
    (90000, True)
    """

    #: Its id, which has one verdict for ever.
    id: int
    debit_account_id: int
    credit_account_id: int
    #: An upper limit when balancing. Zero when posting or voiding: the whole amount.
    amount: int
    #: Zero when posting or voiding: that of the pending transfer. So are ``code`` and the accounts.
    ledger: int
    code: int
    flags: TransferFlags
    #: The pending transfer to post or void.
    pending_id: int
    #: How long a pending transfer reserves, in seconds. Zero: until it is resolved.
    timeout_seconds: int
    user_data_128: int
    user_data_64: int
    user_data_32: int
    #: Log time of the decision, in nanoseconds since 1970. Zero in a request.
    timestamp: int

    def __init__(
        self,
        debit_account_id: AnyId,
        credit_account_id: AnyId,
        amount: int,
        *,
        ledger: int,
        code: int,
        id: AnyId | None = None,
        flags: int = 0,
        pending_id: AnyId = 0,
        timeout_seconds: int = 0,
        user_data_128: AnyId = 0,
        user_data_64: int = 0,
        user_data_32: int = 0,
        timestamp: int = 0,
    ) -> None:
        _set(self, "id", new_id() if id is None else event_id(id))
        _set(self, "debit_account_id", account_id(debit_account_id))
        _set(self, "credit_account_id", account_id(credit_account_id))
        _set(self, "amount", amount)
        _set(self, "ledger", ledger)
        _set(self, "code", code)
        _set(self, "flags", TransferFlags(flags))
        _set(self, "pending_id", event_id(pending_id))
        _set(self, "timeout_seconds", timeout_seconds)
        _set(self, "user_data_128", event_id(user_data_128))
        _set(self, "user_data_64", user_data_64)
        _set(self, "user_data_32", user_data_32)
        _set(self, "timestamp", timestamp)

    @classmethod
    def post(cls, pending: Transfer, amount: int = 0, *, id: AnyId | None = None) -> Transfer:
        """Posts a pending transfer, whole or in part."""
        return cls._ends(pending, TransferFlags.POST_PENDING, amount, id)

    @classmethod
    def void(cls, pending: Transfer, *, id: AnyId | None = None) -> Transfer:
        """Voids a pending transfer."""
        return cls._ends(pending, TransferFlags.VOID_PENDING, 0, id)

    @classmethod
    def _ends(cls, pending: Transfer, flags: TransferFlags, amount: int, id: AnyId | None) -> Transfer:
        # The accounts tell where the reservation is.
        return cls(
            pending.debit_account_id,
            pending.credit_account_id,
            amount,
            ledger=pending.ledger,
            code=pending.code,
            id=id,
            flags=flags,
            pending_id=pending.id,
        )

    def with_flags(self, flags: int) -> Transfer:
        """The same with other flags."""
        return replace(self, flags=TransferFlags(flags))

    def to_bytes(self) -> bytes:
        """Its 128 bytes."""
        return _native.encode_transfer(
            self.id,
            self.debit_account_id,
            self.credit_account_id,
            self.amount,
            self.pending_id,
            self.user_data_128,
            self.user_data_64,
            self.user_data_32,
            self.timeout_seconds,
            self.ledger,
            self.code,
            self.flags,
            self.timestamp,
        )


@dataclass(frozen=True, init=False, slots=True)
class Guard:
    """A condition on an account, in a chain. If it does not hold, the whole chain is refused.

    >>> Guard.version_is("anna", 7).flags.name, Guard.can_debit("anna", 50_00).available
    ('VERSION', 5000)
    """

    id: int
    account_id: int
    #: Smallest available amount, with one of the ``AVAILABLE`` flags.
    available: int
    #: Expected version, with ``VERSION``.
    version: int
    flags: GuardFlags

    def __init__(
        self, account: AnyId, *, flags: int, available: int = 0, version: int = 0, id: AnyId | None = None
    ) -> None:
        _set(self, "id", new_id() if id is None else event_id(id))
        _set(self, "account_id", account_id(account))
        _set(self, "available", available)
        _set(self, "version", version)
        _set(self, "flags", GuardFlags(flags))

    @classmethod
    def version_is(cls, account: AnyId, version: int) -> Guard:
        """The account has not changed since it had this version."""
        return cls(account, flags=GuardFlags.VERSION, version=version)

    @classmethod
    def can_debit(cls, account: AnyId, available: int) -> Guard:
        """At least so much can be debited."""
        return cls(account, flags=GuardFlags.AVAILABLE_TO_DEBIT, available=available)

    @classmethod
    def can_credit(cls, account: AnyId, available: int) -> Guard:
        """At least so much can be credited to an account that has debits."""
        return cls(account, flags=GuardFlags.AVAILABLE_TO_CREDIT, available=available)

    def with_flags(self, flags: int) -> Guard:
        """The same with other flags."""
        return Guard(self.account_id, flags=flags, available=self.available, version=self.version, id=self.id)

    def to_bytes(self) -> bytes:
        """Its 128 bytes."""
        return _native.encode_guard(self.id, self.account_id, self.available, self.version, self.flags)


@dataclass(frozen=True, init=False, slots=True)
class Close:
    """Closes an account, or with ``CloseFlags.REOPEN`` reopens it."""

    id: int
    account_id: int
    flags: CloseFlags

    def __init__(self, account: AnyId, *, flags: int = 0, id: AnyId | None = None) -> None:
        _set(self, "id", new_id() if id is None else event_id(id))
        _set(self, "account_id", account_id(account))
        _set(self, "flags", CloseFlags(flags))

    def with_flags(self, flags: int) -> Close:
        """The same with other flags."""
        return Close(self.account_id, flags=flags, id=self.id)

    def to_bytes(self) -> bytes:
        """Its 128 bytes."""
        return _native.encode_close(self.id, self.account_id, self.flags)


@dataclass(frozen=True, slots=True)
class Other:
    """An event that only leaders write, such as an expiry, as its 128 bytes: FORMAT.md has their layout."""

    kind: EventKind
    data: bytes

    def to_bytes(self) -> bytes:
        """Its 128 bytes."""
        return self.data


#: What can be submitted.
Event: TypeAlias = Account | Transfer | Guard | Close | Name | Describe


def decode(event: bytes) -> Event | Other:
    """The event of 128 bytes. ``ValueError`` if they are none."""
    number, of = _native.decode(event)
    kind = EventKind(number)
    if of is None:
        return Other(kind, event)
    if kind == EventKind.TRANSFER:
        return Transfer(
            of[1], of[2], of[3], id=of[0], pending_id=of[4], user_data_128=of[5], user_data_64=of[6],
            user_data_32=of[7], timeout_seconds=of[8], ledger=of[9], code=of[10], flags=of[11], timestamp=of[12],
        )  # fmt: skip
    if kind == EventKind.ACCOUNT:
        return Account(
            of[0], debits_pending=of[1], debits_posted=of[2], credits_pending=of[3], credits_posted=of[4],
            user_data_128=of[5], user_data_64=of[6], version=of[7], ledger=of[8], code=of[9], flags=of[10],
            timestamp=of[11],
        )  # fmt: skip
    if kind == EventKind.GUARD:
        return Guard(of[1], id=of[0], available=of[2], version=of[3], flags=of[4])
    if kind == EventKind.NAME:
        return Name(of[1], of[2], id=of[0], flags=of[3])
    if kind == EventKind.DESCRIBE:
        return Describe(of[1], of[2], scale=of[3], id=of[0], flags=of[4])
    return Close(of[1], id=of[0], flags=of[2])


def chain(*events: Event) -> list[Event]:
    """The events, linked: they take effect together or not at all.

    >>> one, two = (Transfer("anna", "bert", n, ledger=978, code=1) for n in (1, 2))
    >>> [event.flags.name for event in chain(Guard.can_debit("anna", 50), one, two)]
    ['LINKED|AVAILABLE_TO_DEBIT', 'LINKED', None]
    """
    linked = 1  # the same bit for all kinds
    last = len(events) - 1
    return [one.with_flags(one.flags | linked if at < last else one.flags & ~linked) for at, one in enumerate(events)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event."""

    verdict: Verdict
    #: Offset of its record; ``None`` for a malformed event, which is not logged.
    offset: int | None
    #: Whether this request decided it; if not, an earlier one with the same id did.
    fresh: bool
    #: Log time in nanoseconds since 1970; 0 for repeats and malformed events.
    timestamp: int

    @property
    def ok(self) -> bool:
        """Whether the event took effect, now or before."""
        return self.verdict.is_ok


_OUTCOME = struct.Struct("<BBQQ")


@dataclass(frozen=True, slots=True)
class Submitted(Sequence[Outcome]):
    """Outcomes in the order of the request, made one by one as they are looked at. Everything in it is durable."""

    #: One for each partition that logged anything: hand them to reads that must see the write.
    tokens: list[Token]
    #: The outcomes' bytes, as ``walengine.arrays.OUTCOME``.
    data: bytes = field(repr=False)

    @property
    def all_ok(self) -> bool:
        """Whether every event took effect, now or before."""
        return not any(self.data[:: _OUTCOME.size])

    def refused(self) -> list[tuple[int, Verdict]]:
        """Place and verdict of each event that did not take effect."""
        verdicts = self.data[:: _OUTCOME.size]
        return [(place, Verdict(number)) for place, number in enumerate(verdicts) if number]

    def to_numpy(self) -> numpy.ndarray[Any, numpy.dtype[numpy.void]]:
        """The outcomes as an array over the same bytes."""
        from walengine import arrays

        return arrays.outcomes(self.data)

    def __len__(self) -> int:
        return len(self.data) // _OUTCOME.size

    @overload
    def __getitem__(self, place: int) -> Outcome: ...
    @overload
    def __getitem__(self, place: slice) -> list[Outcome]: ...
    def __getitem__(self, place: int | slice) -> Outcome | list[Outcome]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        at = place + len(self) if place < 0 else place
        if not 0 <= at < len(self):
            raise IndexError(place)
        return _outcome(_OUTCOME.unpack_from(self.data, at * _OUTCOME.size))

    def __iter__(self) -> Iterator[Outcome]:
        return map(_outcome, _OUTCOME.iter_unpack(self.data))


def _outcome(of: tuple[Any, ...]) -> Outcome:
    verdict, marks, offset, timestamp = of
    return Outcome(Verdict(verdict), offset if marks & 1 else None, not marks & 2, timestamp)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Effective accounts and amount of a post, void, expiry or balancing transfer, which the event alone does not
    tell."""

    debit_account_id: int
    credit_account_id: int
    amount: int
    ledger: int
    code: int


@dataclass(frozen=True, slots=True)
class Decision:
    """An event that was decided."""

    partition: int
    verdict: Verdict
    #: Offset and log time of its record.
    offset: int
    timestamp: int
    #: As it was sent.
    event: Event | Other
    resolved: Resolved | None


@dataclass(frozen=True, slots=True)
class IdVerdict:
    """What is known of an id."""

    partition: int
    verdict: Verdict
    offset: int


@dataclass(frozen=True, slots=True)
class AccountsPage:
    """A page of a partition's accounts, in order of creation."""

    accounts: list[Account]
    #: Where the next page starts; ``None`` on the last one.
    next_cursor: int | None
    #: The state includes everything below this offset and nothing else.
    next_offset: int


@dataclass(frozen=True, slots=True)
class Opaque:
    """A record that the ledger does not look into."""

    id: int
    expected_offset: int | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the log: an event, or an opaque record, with its verdict."""

    offset: int
    #: Log time in nanoseconds since 1970.
    timestamp: int
    verdict: Verdict
    event: Event | Other | Opaque
    resolved: Resolved | None


_RECORD = struct.Struct("<QQBB6x128s16s16s16s4xIH6x")


@dataclass(frozen=True, slots=True)
class LogPage:
    """A page of a partition's log."""

    #: Where to continue.
    next_offset: int
    #: Everything below is durable.
    durable_offset: int
    #: The bytes of the records with events, as ``walengine.arrays.RECORD``.
    data: bytes = field(repr=False)
    #: The opaque records.
    opaque: list[Record] = field(repr=False)

    @property
    def records(self) -> list[Record]:
        """The records in their order."""
        records = [_record(of) for of in _RECORD.iter_unpack(self.data)]
        return sorted([*records, *self.opaque], key=lambda record: record.offset) if self.opaque else records

    def to_numpy(self) -> numpy.ndarray[Any, numpy.dtype[numpy.void]]:
        """The records with events as an array over the same bytes."""
        from walengine import arrays

        return arrays.records(self.data)


def _record(of: tuple[Any, ...]) -> Record:
    offset, timestamp, verdict, is_resolved, event, debit, credit, amount, ledger, code = of
    resolved = None
    if is_resolved:
        debit, credit, amount = (int.from_bytes(one, "little") for one in (debit, credit, amount))
        resolved = Resolved(debit, credit, amount, ledger, code)
    return Record(offset, timestamp, Verdict(verdict), decode(event), resolved)


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """What a client learns when it connects."""

    cluster: int
    #: Fixed when the cluster was formatted.
    partitions: int
    server_version: str


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A server's status. The key is the partition, ``None`` for the whole node, and the name, with its unit."""

    numbers: dict[tuple[int | None, str], int]
    texts: dict[tuple[int | None, str], str]


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a cluster."""

    node: int
    #: ``alive``, ``suspect``, ``dead`` or ``left``.
    health: str
    #: Seconds in that state.
    heard_seconds: int
    cores: int
    free_bytes: int
    client_address: str
    peer_address: str
    version: str


@dataclass(frozen=True, slots=True)
class Group:
    """The replicas of a partition as one."""

    partition: int
    #: ``None`` if it is not known.
    leader: int | None
    term: int
    committed_offset: int
    is_changing: bool


@dataclass(frozen=True, slots=True)
class Replica:
    """A node's copy of a partition."""

    partition: int
    node: int
    role: str
    lag_entries: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that a person should look at."""

    partition: int | None
    text: str


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A cluster as its nodes tell it."""

    nodes: list[Node]
    groups: list[Group]
    replicas: list[Replica]
    troubles: list[Trouble]
