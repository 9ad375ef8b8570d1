"""Is a connection with certificates one of the two that belong together, or none?"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from walengine import Account, AsyncClient, Client, Insecure, NothingChanged, account_id


@pytest.fixture
def secured() -> str:
    return os.environ["WALENGINE_TLS_SERVER"]


@pytest.fixture
def tls() -> Path:
    return Path(os.environ["WALENGINE_TLS_DIR"])


def test_money_moves_over_tls(secured: str, tls: Path, book: int) -> None:
    one, two = account_id("one", book), account_id("two", book)
    with Client.connect([secured], tls=tls) as client:
        assert client.create_accounts(Account(id, ledger=1, code=1) for id in (one, two)).all_ok
        assert client.transfer(one, two, 5, ledger=1, code=1).ok

    async def run() -> int:
        async with await AsyncClient.connect(secured, tls=str(tls)) as client:
            state = await client.account(two)
            return state.balance if state else 0

    assert asyncio.run(run()) == 5


def test_nobody_is_believed_without_a_certificate(secured: str, server: str, tls: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingChanged):
        Client.connect(secured, timeout=2)
    with pytest.raises(NothingChanged):
        Client.connect(server, tls=tls, timeout=2)
    with pytest.raises(Insecure):
        Client.connect(secured, tls=tmp_path)
