"""The client for asyncio: what :mod:`walengine._client` is for threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from walengine import _model as model
from walengine import _naming as naming
from walengine import _native
from walengine._client import PAGE_BYTES
from walengine._ids import AnyId
from walengine._native import Token
from walengine._questions import Events, Following, Question, Questions, ReadFrom

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")


def _deliver(waiter: asyncio.Future[Any], answer: Any, error: BaseException | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(answer)
    else:
        waiter.set_exception(error)


async def _wait(call: _native.Call) -> Any:
    event_loop = asyncio.get_running_loop()
    waiter: asyncio.Future[Any] = event_loop.create_future()
    task = call.start(event_loop, _deliver, waiter)
    try:
        return await waiter
    finally:
        # Cancelled: nobody waits for the answer any more.
        if waiter.cancelled():
            task.abandon()


class AsyncClient:
    """A client of a cluster for asyncio. Tasks of one loop, or of several, may share it; no call blocks the loop.

    Every call has a deadline. When a connection is lost, a write is sent again with the same ids, which is safe
    because an id has one verdict for ever. If its outcome is not known at the deadline, it raises
    :class:`walengine.OutcomeUnknown`; every other exception says that nothing was changed. A task that
    is cancelled waits no longer; its write may have been sent.
    """

    def __init__(self, connection: _native.Connection | None) -> None:
        """For :meth:`connect`."""
        self._ask = Questions(connection)

    @classmethod
    async def connect(
        cls,
        servers: str | Sequence[str] = _native.ADDRESS_DEFAULT,
        *,
        tls: str | os.PathLike[str] | None = None,
        timeout: float = 10.0,
        name: str = "walengine for Python",
        read_from: ReadFrom = ReadFrom.ANY,
    ) -> AsyncClient:
        """Connects to a cluster by the addresses of one or more nodes; the others are found.

        :param servers: ``host:port``, several separated by commas or in a list.
        :param tls: Directory with a certificate and whom to believe, as ``walengine cert`` makes it.
        :param timeout: Deadline of every call in seconds, repetitions included; 600 at most.
        :param name: For the server's operator.
        """
        addresses = servers if isinstance(servers, str) else ",".join(servers)
        call = _native.connect(addresses, tls, timeout, name, read_from.value, True)
        return cls(await _wait(call))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
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

    def reading(self, read_from: ReadFrom) -> AsyncClient:
        """A client over the same connections, whose reads are answered elsewhere."""
        return type(self)(self._ask.connection.reading(read_from.value))

    async def _answer(self, question: Question[T]) -> T:
        return question.read(await _wait(question.call))

    async def submit(self, events: Events, *, partition: int | None = None) -> model.Submitted:
        """Submits any number of events. They are split at partitions and limits, never inside a chain, and the
        batches are sent at once. The events are those of :func:`walengine.chain` and others one by one, or an
        array of :mod:`walengine.arrays`.

        :param partition: Send all to this one, in one batch.
        """
        return await self._answer(self._ask.submit(events, partition))

    async def create_accounts(self, accounts: Iterable[model.Account] | Buffer) -> model.Submitted:
        """Creates accounts. An account that exists with the same fields is a repeat."""
        return await self._answer(self._ask.create_accounts(accounts))

    async def transfer(
        self, debit: AnyId, credit: AnyId, amount: int, *, ledger: int, code: int, id: AnyId | None = None
    ) -> model.Outcome:
        """Moves an amount between two accounts. A refusal is an outcome, and not an exception."""
        one = model.Transfer(debit, credit, amount, ledger=ledger, code=code, id=id)
        return await self._answer(self._ask.submit_one(one))

    async def name_account(self, account: AnyId, name: str, *, id: AnyId | None = None) -> model.Outcome:
        """Names an account for people, or with an empty text takes its name away."""
        return await self._answer(self._ask.submit_one(naming.Name(account, name, id=id)))

    async def describe_ledger(
        self, ledger: int, name: str, *, scale: int, rescale: bool = False, id: AnyId | None = None
    ) -> model.Outcome:
        """Says what a ledger's asset is called, and how many digits of its amounts stand behind the point.

        :param rescale: The ledger had another scale, which was wrong.
        """
        return await self._answer(self._ask.describe_ledger(ledger, name, scale, rescale, id))

    async def append_records(
        self, records: Iterable[tuple[AnyId, bytes]], *, partition: int, expected: int | None = None
    ) -> model.Submitted:
        """Appends opaque records to a partition. With ``expected``, the first must get that offset, the second the
        next, and so on."""
        return await self._answer(self._ask.append_records(records, partition, expected))

    async def account(self, id: AnyId, *, tokens: Sequence[Token] = ()) -> model.Account | None:
        """An account by its id, with a state that includes the writes of ``tokens``."""
        return await self._answer(self._ask.account(id, tokens))

    async def accounts(self, ids: Iterable[AnyId], *, tokens: Sequence[Token] = ()) -> list[model.Account | None]:
        """Accounts in the order of ``ids``. ``None``: there was none when this was called."""
        return await self._answer(self._ask.accounts(ids, tokens))

    async def transfers(self, ids: Iterable[AnyId], *, tokens: Sequence[Token] = ()) -> list[model.Decision | None]:
        """Transfers, guards and closes in the order of ``ids``. ``None``: not decided when this was called."""
        return await self._answer(self._ask.transfers(ids, tokens))

    async def verdicts(self, ids: Iterable[AnyId], *, tokens: Sequence[Token] = ()) -> list[model.IdVerdict | None]:
        """Verdicts of events in the order of ``ids``. ``None``: not decided when this was called; a request in
        flight may decide it yet."""
        return await self._answer(self._ask.verdicts(ids, tokens))

    async def account_verdicts(
        self, ids: Iterable[AnyId], *, tokens: Sequence[Token] = ()
    ) -> list[model.IdVerdict | None]:
        """As :meth:`verdicts`, of the creation of accounts."""
        return await self._answer(self._ask.account_verdicts(ids, tokens))

    async def list_accounts(
        self, partition: int = 0, *, after: int | None = None, limit: int = 1000, tokens: Sequence[Token] = ()
    ) -> model.AccountsPage:
        """A page of a partition's accounts; ``after`` is the ``next_cursor`` of the page before."""
        return await self._answer(self._ask.list_accounts(partition, after, limit, tokens))

    async def names(self, ids: Iterable[AnyId], *, tokens: Sequence[Token] = ()) -> list[str | None]:
        """What accounts are called, in the order of ``ids``. ``None``: it has no name."""
        return await self._answer(self._ask.names(ids, tokens))

    async def find_names(
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
        return await self._answer(self._ask.find_names(prefix, partition, after, limit, tokens))

    async def ledgers(self, *, tokens: Sequence[Token] = ()) -> list[naming.Ledger]:
        """The ledgers that were described, ascending."""
        return await self._answer(self._ask.ledgers(tokens))

    async def read_log(
        self, partition: int = 0, offset: int = 0, *, bytes_max: int = PAGE_BYTES, tokens: Sequence[Token] = ()
    ) -> model.LogPage:
        """A page of a partition's log. Without records, the log ends there for now."""
        return await self._answer(self._ask.read_log(partition, offset, bytes_max, tokens))

    def follow(self, partition: int = 0, offset: int = 0) -> AsyncSubscription:
        """A partition's log as it grows. A lost connection or node does not end it, and pages neither repeat nor
        leave out a record."""
        return AsyncSubscription(Following(self._ask.connection.subscribe(partition, offset), offset))

    async def server_status(self, partition: int = 0) -> model.ServerStatus:
        """Status of the server, from the shard that serves ``partition``."""
        return await self._answer(self._ask.server_status(partition))

    async def cluster_status(self) -> model.ClusterStatus:
        """The cluster as its nodes tell it. Fails only if none of the addresses answers."""
        return await self._answer(self._ask.cluster_status())


class AsyncSubscription:
    """Pages of a log as it grows. To iterate waits for ever; :meth:`next_page` need not."""

    def __init__(self, following: Following) -> None:
        """For :meth:`AsyncClient.follow`."""
        self._following = following

    @property
    def next_offset(self) -> int:
        """Where the next page starts. Store it with what was made of the pages before."""
        return self._following.next_offset

    async def next_page(self, within: float | None = None) -> model.LogPage | None:
        """The next page; ``None`` if the log does not grow for so many seconds. A wait that is given up loses
        nothing."""
        question = self._following.next_page(within)
        return self._following.taken(question.read(await _wait(question.call)))

    def __aiter__(self) -> AsyncIterator[model.LogPage]:
        return self

    async def __anext__(self) -> model.LogPage:
        page = await self.next_page()
        assert page is not None, "without a limit it waits for a page"
        return page
