"""The client for threads. :mod:`walengine._async_client` is the same for asyncio, and a test holds them to it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from walengine import _model as model
from walengine import _naming as naming
from walengine import _native
from walengine._ids import AnyId
from walengine._native import Token
from walengine._questions import Events, Following, Question, Questions, ReadFrom

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

#: Bytes of entries that are asked for as one page of the log.
PAGE_BYTES = 256 << 10


class Client:
    """A client of a cluster. Threads may share it, and other threads run while one waits.

    Every call has a deadline. When a connection is lost, a write is sent again with the same ids, which is safe
    because an id has one verdict for ever. If its outcome is not known at the deadline, it raises
    :class:`walengine.OutcomeUnknown`; every other exception says that nothing was changed. Ctrl-C ends a wait; a
    write that was waited for may then have been sent.
    """

    def __init__(self, connection: _native.Connection | None) -> None:
        """For :meth:`connect`."""
        self._ask = Questions(connection)

    @classmethod
    def connect(
        cls,
        servers: str | Sequence[str] = _native.ADDRESS_DEFAULT,
        *,
        tls: str | os.PathLike[str] | None = None,
        timeout: float = 10.0,
        name: str = "walengine for Python",
        read_from: ReadFrom = ReadFrom.ANY,
    ) -> Client:
        """Connects to a cluster by the addresses of one or more nodes; the others are found.

        :param servers: ``host:port``, several separated by commas or in a list.
        :param tls: Directory with a certificate and whom to believe, as ``walengine cert`` makes it.
        :param timeout: Deadline of every call in seconds, repetitions included; 600 at most.
        :param name: For the server's operator.
        """
        addresses = servers if isinstance(servers, str) else ",".join(servers)
        call = _native.connect(addresses, tls, timeout, name, read_from.value, False)
        return cls(call.wait())

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends its connections once no call and no other client needs them. Later calls raise ``ClientClosed``."""
        self._ask.close()

    @property
    def info(self) -> model.ClusterInfo:
        """What the cluster is."""
        return self._ask.info()

    def partition_of(self, account: AnyId) -> int:
        """The partition of an account."""
        return self._ask.partition_of(account)

    def reading(self, read_from: ReadFrom) -> Client:
        """A client over the same connections, whose reads are answered elsewhere."""
        return type(self)(self._ask.connection.reading(read_from.value))

    def _answer(self, question: Question[T]) -> T:
        return question.read(question.call.wait())

    def submit(self, events: Events, *, partition: int | None = None) -> model.Submitted:
        """Submits any number of events. They are split at partitions and limits, never inside a chain, and the
        batches are sent at once. The events are those of :func:`walengine.chain` and others one by one, or an
        array of :mod:`walengine.arrays`.

        :param partition: Send all to this one, in one batch.
        """
        return self._answer(self._ask.submit(events, partition))

    def create_accounts(self, accounts: Iterable[model.Account] | Buffer) -> model.Submitted:
        """Creates accounts. An account that exists with the same fields is a repeat."""
        return self._answer(self._ask.create_accounts(accounts))

    def transfer(
        self, debit: AnyId, credit: AnyId, amount: int, *, ledger: int, code: int, id: AnyId | None = None
    ) -> model.Outcome:
        """Moves an amount between two accounts. A refusal is an outcome, and not an exception."""
        one = model.Transfer(debit, credit, amount, ledger=ledger, code=code, id=id)
        return self._answer(self._ask.submit_one(one))

    def name_account(self, account: AnyId, name: str, *, id: AnyId | None = None) -> model.Outcome:
        """Names an account for people, or with an empty text takes its name away."""
        return self._answer(self._ask.submit_one(naming.Name(account, name, id=id)))

    def describe_ledger(
        self, ledger: int, name: str, *, scale: int, rescale: bool = False, id: AnyId | None = None
    ) -> model.Outcome:
        """Says what a ledger's asset is called, and how many digits of its amounts stand behind the point.

        :param rescale: The ledger had another scale, which was wrong.
        """
        return self._answer(self._ask.describe_ledger(ledger, name, scale, rescale, id))

    def append_records(
        self, records: Iterable[tuple[AnyId, bytes]], *, partition: int, expected: int | None = None
    ) -> model.Submitted:
        """Appends opaque records to a partition. With ``expected``, the first must get that offset, the second the
        next, and so on."""
        return self._answer(self._ask.append_records(records, partition, expected))

    def account(self, id: AnyId, *, tokens: Sequence[Token] = ()) -> model.Account | None:
        """An account by its id, with a state that includes the writes of ``tokens``."""
        return self._answer(self._ask.account(id, tokens))

    def accounts(self, ids: Iterable[AnyId], *, tokens: Sequence[Token] = ()) -> list[model.Account | None]:
        """Accounts in the order of ``ids``. ``None``: there was none when this was called."""
        return self._answer(self._ask.accounts(ids, tokens))

    def transfers(self, ids: Iterable[AnyId], *, tokens: Sequence[Token] = ()) -> list[model.Decision | None]:
        """Transfers, guards and closes in the order of ``ids``. ``None``: not decided when this was called."""
        return self._answer(self._ask.transfers(ids, tokens))

    def verdicts(self, ids: Iterable[AnyId], *, tokens: Sequence[Token] = ()) -> list[model.IdVerdict | None]:
        """Verdicts of events in the order of ``ids``. ``None``: not decided when this was called; a request in
        flight may decide it yet."""
        return self._answer(self._ask.verdicts(ids, tokens))

    def account_verdicts(
        self, ids: Iterable[AnyId], *, tokens: Sequence[Token] = ()
    ) -> list[model.IdVerdict | None]:
        """As :meth:`verdicts`, of the creation of accounts."""
        return self._answer(self._ask.account_verdicts(ids, tokens))

    def list_accounts(
        self, partition: int = 0, *, after: int | None = None, limit: int = 1000, tokens: Sequence[Token] = ()
    ) -> model.AccountsPage:
        """A page of a partition's accounts; ``after`` is the ``next_cursor`` of the page before."""
        return self._answer(self._ask.list_accounts(partition, after, limit, tokens))

    def names(self, ids: Iterable[AnyId], *, tokens: Sequence[Token] = ()) -> list[str | None]:
        """What accounts are called, in the order of ``ids``. ``None``: it has no name."""
        return self._answer(self._ask.names(ids, tokens))

    def find_names(
        self,
        prefix: str = "",
        partition: int = 0,
        *,
        after: int | None = None,
        limit: int = 1000,
        tokens: Sequence[Token] = (),
    ) -> naming.NamesPage:
        """A page of a partition's accounts whose names begin so, in capitals or not; ``after`` is the
        ``next_cursor`` of the page before."""
        return self._answer(self._ask.find_names(prefix, partition, after, limit, tokens))

    def ledgers(self, *, tokens: Sequence[Token] = ()) -> list[naming.Ledger]:
        """The ledgers that were described, ascending."""
        return self._answer(self._ask.ledgers(tokens))

    def read_log(
        self, partition: int = 0, offset: int = 0, *, bytes_max: int = PAGE_BYTES, tokens: Sequence[Token] = ()
    ) -> model.LogPage:
        """A page of a partition's log. Without records, the log ends there for now."""
        return self._answer(self._ask.read_log(partition, offset, bytes_max, tokens))

    def follow(self, partition: int = 0, offset: int = 0) -> Subscription:
        """A partition's log as it grows. A lost connection or node does not end it, and pages neither repeat nor
        leave out a record."""
        return Subscription(Following(self._ask.connection.subscribe(partition, offset), offset))

    def server_status(self, partition: int = 0) -> model.ServerStatus:
        """Status of the server, from the shard that serves ``partition``."""
        return self._answer(self._ask.server_status(partition))

    def cluster_status(self) -> model.ClusterStatus:
        """The cluster as its nodes tell it. Fails only if none of the addresses answers."""
        return self._answer(self._ask.cluster_status())


class Subscription:
    """Pages of a log as it grows. To iterate waits for ever; :meth:`next_page` need not."""

    def __init__(self, following: Following) -> None:
        """For :meth:`Client.follow`."""
        self._following = following

    @property
    def next_offset(self) -> int:
        """Where the next page starts. Store it with what was made of the pages before."""
        return self._following.next_offset

    def next_page(self, within: float | None = None) -> model.LogPage | None:
        """The next page; ``None`` if the log does not grow for so many seconds. A wait that is given up loses
        nothing."""
        question = self._following.next_page(within)
        return self._following.taken(question.read(question.call.wait()))

    def __iter__(self) -> Iterator[model.LogPage]:
        return self

    def __next__(self) -> model.LogPage:
        page = self.next_page()
        assert page is not None, "without a limit it waits for a page"
        return page
