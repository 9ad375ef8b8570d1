"""Does a wait leave the lock of Python to others, end by Ctrl-C, leave the loop alone, and lose nothing?"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from walengine import (
    AsyncClient,
    Client,
    Error,
    NothingChanged,
    OutcomeUnknown,
    ReadFrom,
    Transfer,
    Unreachable,
    Verdict,
)

T = TypeVar("T")
Open = Callable[..., list[int]]


class Relay:
    """Stands between a client and its server, and can keep what either says to itself."""

    def __init__(self, server: str) -> None:
        host, port = server.rsplit(":", 1)
        self._server = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.answers = threading.Event()
        self.answers.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            for one, other, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._copy, args=(one, other, is_answer), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket, is_answer: bool) -> None:
        try:
            while data := one.recv(1 << 16):
                if not is_answer or self.answers.is_set():
                    other.sendall(data)
        except OSError:
            pass

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def relay(server: str) -> Iterator[Relay]:
    relay = Relay(server)
    yield relay
    relay.close()


def until_done(call: Callable[[], T]) -> T:
    """What comes of it, however slow the machine is: what is sent again is done once."""
    while True:
        try:
            return call()
        except Error:
            continue


def test_other_threads_run_while_one_waits(client: Client, relay: Relay) -> None:
    with Client.connect(relay.address, timeout=600) as waiting:
        relay.answers.clear()
        told: list[object] = []
        thread = threading.Thread(target=lambda: told.append(waiting.follow().next_page(within=None)), daemon=True)
        thread.start()
        # Were the lock held, this thread would not come to the end of it.
        for _ in range(50):
            assert client.account("nobody") is None
        assert thread.is_alive() and not told


def test_threads_share_a_client(client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")

    def pay(_: int) -> bool:
        return client.transfer(anna, bert, 1, ledger=1, code=1).ok

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(pay, range(400)))
    state = client.reading(ReadFrom.LINEARIZABLE).account(bert)
    assert state is not None and state.balance == 400


def test_an_unanswered_write_says_so(client: Client, relay: Relay, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    first, one = (Transfer(anna, bert, amount, ledger=1, code=1) for amount in (7, 5))
    with until_done(lambda: Client.connect(relay.address, timeout=0.8)) as cut_off:
        # From here on the partition's connection is open, so the next write is sent.
        assert until_done(lambda: cut_off.submit([first])).all_ok
        relay.answers.clear()
        with pytest.raises(OutcomeUnknown) as unknown:
            cut_off.submit([one])
        assert unknown.value.may_have_changed
        with pytest.raises(NothingChanged):
            cut_off.account(anna)
    again = client.submit([one])
    assert again[0].verdict is Verdict.OK
    state = client.account(bert, tokens=again.tokens)
    assert state is not None and state.balance == 12, "sent again, it moved the money once"


INTERRUPTED = """
import sys
from walengine import Client
with Client.connect(sys.argv[1]) as client:
    follower = client.follow(0, 10**15)
    try:
        print("waiting", flush=True)
        follower.next_page()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_wait(server: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, server], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "waiting\n"
    # The wait is for ever: without a look at signals this test does not end.
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n" and process.wait() == 0


FORKED = """
import os, sys
from walengine import Client
client = Client.connect(sys.argv[1])
if os.fork() == 0:
    try:
        client.account("nobody")
    except RuntimeError as error:
        assert "forked" in str(error)
        with Client.connect(sys.argv[1]) as mine:
            mine.account("nobody")
        os._exit(7)
    os._exit(1)
_, status = os.wait()
client.account("nobody")
print(os.waitstatus_to_exitcode(status))
"""


def test_a_fork_is_noticed(server: str) -> None:
    done = subprocess.run([sys.executable, "-c", FORKED, server], capture_output=True, text=True, check=True)
    assert done.stdout == "7\n", done.stderr


ENDS = """
import asyncio, sys, time
from walengine import AsyncClient
class Lingering(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, *told, **context):
        handle = super().call_soon_threadsafe(*told, **context)
        for _ in range(300):
            time.sleep(0.001)
        return handle
async def run():
    async with await AsyncClient.connect(sys.argv[1]) as client:
        await client.account("x")
with asyncio.Runner(loop_factory=Lingering) as runner:
    runner.run(run())
"""


def test_a_program_ends_well_right_after_its_last_answer(server: str) -> None:
    # A fault of its first days: the thread that had told the loop was ended inside the interpreter, and aborted the
    # process, two times in five. Here it is still inside when the program ends.
    done = subprocess.run([sys.executable, "-c", ENDS, server], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_many_calls_wait_on_one_loop(server: str, opened: Open) -> None:
    anna, bert = opened("anna", "bert")

    async def run() -> int:
        async with await AsyncClient.connect(server) as client:
            pay = [client.transfer(anna, bert, 1, ledger=1, code=1) for _ in range(200)]
            outcomes = await asyncio.gather(*pay)
            assert all(outcome.ok for outcome in outcomes)
            state = await client.account(bert)
            assert state is not None
            return state.balance

    assert asyncio.run(run()) == 200


def test_the_loop_goes_on_while_a_call_waits(relay: Relay) -> None:
    async def run() -> None:
        async with await AsyncClient.connect(relay.address, timeout=600) as client:
            relay.answers.clear()
            waiting = asyncio.create_task(client.account("anna"))
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not waiting.done(), "the loop has turned a thousand times meanwhile"
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(run())


def test_a_cancelled_wait_for_a_page_loses_none(server: str, client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    start = client.submit([Transfer(anna, bert, 1, ledger=1, code=1)])[0].offset
    assert start is not None
    partition = client.partition_of(anna)

    async def run() -> list[int]:
        async with await AsyncClient.connect(server) as following:
            follower, seen = following.follow(partition, start), list[int]()
            for turn in range(40):
                waiting = asyncio.create_task(follower.next_page())
                for _ in range(turn % 8 * 25):
                    await asyncio.sleep(0)
                waiting.cancel()
                try:
                    page = await waiting
                except asyncio.CancelledError:
                    page = None
                if page is not None:
                    seen += [record.offset for record in page.records]
                await following.transfer(anna, bert, 1, ledger=1, code=1)
            while follower.next_offset <= start + 40:
                page = await follower.next_page(within=10)
                assert page is not None
                seen += [record.offset for record in page.records]
            return seen

    assert asyncio.run(run())[:41] == list(range(start, start + 41))


def test_the_errors_of_both_faces_are_the_same(server: str) -> None:
    async def run() -> None:
        with pytest.raises(Unreachable):
            await AsyncClient.connect("127.0.0.1:1")
        async with await AsyncClient.connect(server) as client:
            with pytest.raises(NothingChanged):
                await client.read_log(999)
        with pytest.raises(NothingChanged):
            await client.account("anna")

    asyncio.run(run())


def test_a_loop_that_ends_early_harms_nobody(server: str) -> None:
    async def run() -> AsyncClient:
        client = await AsyncClient.connect(server)
        asyncio.ensure_future(client.follow().next_page())
        await asyncio.sleep(0)
        return client

    client = asyncio.run(run())

    async def again() -> None:
        assert await client.account("nobody") is None

    asyncio.run(again())
