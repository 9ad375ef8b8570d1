"""The tests talk to the server at WALENGINE_SERVER, which they need, and share its ledger: each has a book of its
own."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator

import pytest

from walengine import Account, Client, account_id

# Of no run before on the same server.
_books = itertools.count(random.SystemRandom().randrange(2**31))


@pytest.fixture(scope="session")
def server() -> str:
    return os.environ["WALENGINE_SERVER"]


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client.connect(server) as client:
        yield client


@pytest.fixture
def book() -> int:
    return next(_books)


@pytest.fixture
def opened(client: Client, book: int) -> Callable[..., list[int]]:
    """Opens accounts by name in the test's book, and gives their ids."""

    def open_them(*names: str, flags: int = 0) -> list[int]:
        ids = [account_id(name, book) for name in names]
        created = client.create_accounts(Account(one, ledger=1, code=1, flags=flags) for one in ids)
        assert created.all_ok, created.refused()
        return ids

    return open_them
