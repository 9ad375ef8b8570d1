"""Every question that a client asks, and what its answer means: once for both faces."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from walengine import _model as model
from walengine import _naming as naming
from walengine import _native
from walengine._codes import DescribeFlags, Verdict
from walengine._errors import ClientClosed
from walengine._ids import AnyId, account_id, event_id
from walengine._native import Token

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

#: Events one by one, or the 128 bytes of each side by side: as bytes, or as an array of ``walengine.arrays``.
Events: TypeAlias = "Iterable[model.Event] | Buffer"


class ReadFrom(enum.Enum):
    """Which nodes answer reads. Tokens hold at all of them."""

    #: Followers in turn, with the state that they have.
    ANY = "any"
    #: The node that believes it leads, with the state that it has.
    LEADER = "leader"
    #: The leader, with a state that includes everything that was acknowledged before the read.
    LINEARIZABLE = "linearizable"


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A call, and what to make of its answer."""

    call: _native.Call
    read: Callable[[Any], T]


class Questions:
    """The questions over one connection."""

    def __init__(self, connection: _native.Connection | None) -> None:
        self._open = connection

    @property
    def connection(self) -> _native.Connection:
        if self._open is None:
            raise ClientClosed("the client has been closed")
        return self._open

    def close(self) -> None:
        self._open = None

    def info(self) -> model.ClusterInfo:
        return model.ClusterInfo(*self.connection.info())

    def partition_of(self, account: AnyId) -> int:
        return self.connection.partition_of(account_id(account))

    def submit(self, events: Events, partition: int | None) -> Question[model.Submitted]:
        return Question(self.connection.submit(_bytes_of(events), partition), _submitted)

    def create_accounts(self, accounts: Iterable[model.Account] | Buffer) -> Question[model.Submitted]:
        return Question(self.connection.create_accounts(_bytes_of(accounts)), _submitted)

    def submit_one(self, event: model.Event) -> Question[model.Outcome]:
        return Question(self.connection.submit(event.to_bytes(), None), lambda of: _submitted(of)[0])

    def describe_ledger(
        self, ledger: int, name: str, scale: int, rescale: bool, id: AnyId | None
    ) -> Question[model.Outcome]:
        flags = DescribeFlags.RESCALE if rescale else 0
        return self.submit_one(naming.Describe(ledger, name, scale=scale, flags=flags, id=id))

    def append_records(
        self, records: Iterable[tuple[AnyId, bytes]], partition: int, expected: int | None
    ) -> Question[model.Submitted]:
        plain = [(event_id(of), bytes(data)) for of, data in records]
        return Question(self.connection.append_records(partition, plain, expected), _submitted)

    def accounts(self, ids: Iterable[AnyId], tokens: Sequence[Token]) -> Question[list[model.Account | None]]:
        plain = [account_id(of) for of in ids]
        return Question(self.connection.lookup_accounts(plain, list(tokens)), _accounts)

    def account(self, of: AnyId, tokens: Sequence[Token]) -> Question[model.Account | None]:
        call = self.connection.lookup_accounts([account_id(of)], list(tokens))
        return Question(call, lambda of: _accounts(of)[0])

    def transfers(self, ids: Iterable[AnyId], tokens: Sequence[Token]) -> Question[list[model.Decision | None]]:
        plain = [event_id(of) for of in ids]
        return Question(self.connection.lookup_transfers(plain, list(tokens)), _decisions)

    def verdicts(self, ids: Iterable[AnyId], tokens: Sequence[Token]) -> Question[list[model.IdVerdict | None]]:
        plain = [event_id(of) for of in ids]
        return Question(self.connection.verdicts(plain, False, list(tokens)), _verdicts)

    def account_verdicts(
        self, ids: Iterable[AnyId], tokens: Sequence[Token]
    ) -> Question[list[model.IdVerdict | None]]:
        plain = [account_id(of) for of in ids]
        return Question(self.connection.verdicts(plain, True, list(tokens)), _verdicts)

    def list_accounts(
        self, partition: int, after: int | None, limit: int, tokens: Sequence[Token]
    ) -> Question[model.AccountsPage]:
        call = self.connection.list_accounts(partition, after, limit, list(tokens))
        return Question(call, lambda of: model.AccountsPage(_each_account(of[0]), of[1], of[2]))

    def names(self, ids: Iterable[AnyId], tokens: Sequence[Token]) -> Question[list[str | None]]:
        plain = [account_id(of) for of in ids]
        return Question(self.connection.lookup_names(plain, list(tokens)), list)

    def find_names(
        self, prefix: str, partition: int, after: int | None, limit: int, tokens: Sequence[Token]
    ) -> Question[naming.NamesPage]:
        call = self.connection.find_names(partition, prefix, after, limit, list(tokens))
        return Question(call, lambda of: naming.NamesPage([naming.NamedAccount(*row) for row in of[0]], of[1]))

    def ledgers(self, tokens: Sequence[Token]) -> Question[list[naming.Ledger]]:
        return Question(self.connection.ledgers(list(tokens)), lambda of: [naming.Ledger(*row) for row in of])

    def read_log(
        self, partition: int, offset: int, bytes_max: int, tokens: Sequence[Token]
    ) -> Question[model.LogPage]:
        return Question(self.connection.read_log(partition, offset, bytes_max, list(tokens)), _page)

    def server_status(self, partition: int) -> Question[model.ServerStatus]:
        return Question(self.connection.server_status(partition), _server_status)

    def cluster_status(self) -> Question[model.ClusterStatus]:
        return Question(self.connection.cluster_status(), _cluster_status)


class Following:
    """A subscription, and where the newest page that has come to the user ends."""

    def __init__(self, subscription: _native.Subscription, offset: int) -> None:
        self._subscription = subscription
        self.next_offset = offset

    def next_page(self, within: float | None) -> Question[model.LogPage | None]:
        call = self._subscription.next_page(self.next_offset, within)
        return Question(call, lambda of: None if of is None else _page(of))

    def taken(self, page: model.LogPage | None) -> model.LogPage | None:
        if page is not None:
            self.next_offset = page.next_offset
        return page


def _bytes_of(events: Iterable[Any] | Buffer) -> Buffer:
    if isinstance(events, (bytes, bytearray)):
        return events
    if hasattr(events, "__array_interface__"):
        from walengine import arrays

        array: Buffer = arrays.plain(events)
        return array
    if isinstance(events, memoryview):
        return events.cast("B")
    assert isinstance(events, Iterable)
    return b"".join(event.to_bytes() for event in events)


def _submitted(of: tuple[list[Token], bytes]) -> model.Submitted:
    return model.Submitted(*of)


def _each_account(data: bytes) -> list[model.Account]:
    accounts = (model.decode(data[at : at + 128]) for at in range(0, len(data), _native.EVENT_BYTES))
    return [account for account in accounts if isinstance(account, model.Account)]


def _accounts(of: tuple[bytes, bytes]) -> list[model.Account | None]:
    exist, data = of
    size = _native.EVENT_BYTES
    found = iter(_each_account(b"".join(data[at * size : (at + 1) * size] for at, is_there in enumerate(exist) if is_there)))
    return [next(found) if is_there else None for is_there in exist]


def _decisions(of: list[Any]) -> list[model.Decision | None]:
    return [None if one is None else _decision(*one) for one in of]


def _decision(partition: int, verdict: int, offset: int, timestamp: int, event: bytes, resolved: Any) -> model.Decision:
    fields = None if resolved is None else model.Resolved(*resolved)
    return model.Decision(partition, Verdict(verdict), offset, timestamp, model.decode(event), fields)


def _verdicts(of: list[Any]) -> list[model.IdVerdict | None]:
    return [None if one is None else model.IdVerdict(one[0], Verdict(one[1]), one[2]) for one in of]


def _page(of: tuple[int, int, bytes, list[Any]]) -> model.LogPage:
    next_offset, durable_offset, data, opaque = of
    records = [
        model.Record(offset, timestamp, Verdict(verdict), model.Opaque(id, expected, bytes(record)), None)
        for offset, timestamp, verdict, id, expected, record in opaque
    ]
    return model.LogPage(next_offset, durable_offset, data, records)


def _server_status(of: tuple[list[Any], list[Any]]) -> model.ServerStatus:
    numbers, texts = ({(row[0], row[1]): row[2] for row in rows} for rows in of)
    return model.ServerStatus(numbers, texts)


def _cluster_status(of: tuple[list[Any], ...]) -> model.ClusterStatus:
    nodes, groups, replicas, troubles = of
    return model.ClusterStatus(
        [model.Node(*row) for row in nodes],
        [model.Group(*row) for row in groups],
        [model.Replica(*row) for row in replicas],
        [model.Trouble(*row) for row in troubles],
    )
