"""Compares the rate of the package with that of walengine-bench load, which is Rust without a client library.

Both send the same transfers to the same server in turn, in pairs, so that what else the machine does counts for both.
One connection, 8,190 transfers between 10,000 accounts in a request, ids at random, one or eight requests in flight.

    walengine --listen 127.0.0.1:7550 --cores 1 --data DIR &
    python bench.py --server 127.0.0.1:7550 --bench target/release/walengine-bench

What counts: a release build of the server and of the package, as ``pip install ./python`` makes it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import time

import numpy

from walengine import EVENTS_MAX, AsyncClient, Client, arrays

ACCOUNTS = 10_000
#: What the rate of the package should be at least, as a share of the other.
WANTED = 0.7


def home_book(client: Client) -> int:
    """The first book of partition 0, where the load goes, too."""
    return next(book for book in range(1 << 16) if client.partition_of(book << 96 | 1) == 0)


class Load:
    """Sends batches by the package."""

    def __init__(self, server: str) -> None:
        self.server, self.client = server, Client.connect(server, timeout=60)
        self.book = home_book(self.client)
        self.chance = numpy.random.default_rng()
        accounts = arrays.accounts(ACCOUNTS)
        accounts["id"]["hi"], accounts["id"]["lo"] = self.book << 32, numpy.arange(1, ACCOUNTS + 1)
        accounts["ledger"], accounts["code"] = 1, 1
        assert self.client.create_accounts(accounts).all_ok

    def batch(self, count: int) -> arrays.Array:
        """So many transfers, made anew."""
        batch = numpy.zeros(count, arrays.TRANSFER)
        random = self.chance.integers
        for half in ("hi", "lo"):
            batch["id"][half] = random(1, 2**64, count, numpy.uint64)
        debit = random(0, ACCOUNTS, count)
        # Another account than the debited one.
        credit = (debit + random(1, ACCOUNTS, count)) % ACCOUNTS
        for side, number in (("debit_account_id", debit), ("credit_account_id", credit)):
            batch[side]["hi"], batch[side]["lo"] = self.book << 32, number + 1
        batch["amount"]["lo"] = random(1, 65, count)
        batch["ledger"], batch["code"] = 1, 1
        return batch

    def rate(self, seconds: float, inflight: int) -> float:
        """Transfers a second: one request after the other by the client for threads, or several by that for asyncio."""
        if inflight > 1:
            return asyncio.run(self._rate_on_loop(seconds, inflight))
        self.client.submit(self.batch(EVENTS_MAX))
        sent, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            done = self.client.submit(self.batch(EVENTS_MAX))
            assert done.all_ok, done.refused()[:3]
            sent += len(done)
        return sent / spent

    async def _rate_on_loop(self, seconds: float, inflight: int) -> float:
        async with await AsyncClient.connect(self.server, timeout=60) as client:
            await client.submit(self.batch(EVENTS_MAX))
            start = time.perf_counter()

            async def one_after_the_other() -> int:
                sent = 0
                while time.perf_counter() - start < seconds:
                    done = await client.submit(self.batch(EVENTS_MAX))
                    assert done.all_ok, done.refused()[:3]
                    sent += len(done)
                return sent

            sent = sum(await asyncio.gather(*(one_after_the_other() for _ in range(inflight))))
            return sent / (time.perf_counter() - start)


def rust_rate(arguments: argparse.Namespace, inflight: int) -> float:
    """The same by walengine-bench load."""
    command = [arguments.bench, "load", "--server", arguments.server, "--batch", str(EVENTS_MAX), "--json"]
    command += ["--inflight", str(inflight), "--seconds", str(arguments.seconds), "--accounts", str(ACCOUNTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["events_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1:7450")
    parser.add_argument("--bench", default="walengine-bench", help="the program walengine-bench")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each half of a pair")
    arguments = parser.parse_args()
    load = Load(arguments.server)
    for inflight in (1, 8):
        ratios = []
        for pair in range(arguments.pairs):
            # Each goes first in turn.
            halves = {"rust": lambda: rust_rate(arguments, inflight), "python": lambda: load.rate(arguments.seconds, inflight)}
            order = sorted(halves, reverse=bool(pair % 2))
            rates = {name: halves[name]() for name in order}
            ratios.append(rates["python"] / rates["rust"])
            print(f"{inflight} in flight: Python {rates['python']:>12,.0f}/s  Rust {rates['rust']:>12,.0f}/s  {ratios[-1]:.2f}")
        median = statistics.median(ratios)
        met = "met" if median >= WANTED else "MISSED"
        print(f"{inflight} in flight: {median:.2f} of Rust's ({min(ratios):.2f} to {max(ratios):.2f}); {WANTED} wanted: {met}")


if __name__ == "__main__":
    main()
