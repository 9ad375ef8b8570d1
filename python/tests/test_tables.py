"""Do arrays and tables say what the events say, to the last bit of an amount?"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from decimal import Decimal

import numpy
import pandas
import pyarrow
import pytest

from walengine import Account, Client, Transfer, Verdict, arrays, decode, event_id, frames

Open = Callable[..., list[int]]
BIG = 2**127 + 2**64 + 7


def test_the_types_lay_fields_out_as_the_client_does() -> None:
    chance = random.Random(7)
    for of, made in ((arrays.TRANSFER, Transfer), (arrays.ACCOUNT, Account)):
        assert of.itemsize == 128
        for _ in range(50):
            batch = numpy.zeros(1, of)
            if made is Account:
                batch["flags"] = arrays.accounts(1)["flags"]
            expected = {}
            for name in of.names or ():
                bits = 12 if name == "flags" else 8 * of[name].itemsize
                number = chance.getrandbits(bits)
                expected[name] = number
                if of[name] == arrays.U128:
                    arrays.set_u128s(batch[name], [number])
                elif name == "flags":
                    batch[name] |= number
                else:
                    batch[name] = number
            event = decode(batch.tobytes())
            assert isinstance(event, made) and {name: int(getattr(event, name)) for name in expected} == expected
            assert event.to_bytes() == batch.tobytes()


def test_an_array_is_submitted_as_it_is(client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    batch = arrays.transfers(20_000)
    for name, id in (("debit_account_id", anna), ("credit_account_id", bert)):
        arrays.set_u128s(batch[name], [id] * len(batch))
    batch["amount"]["lo"], batch["ledger"], batch["code"] = 2, 1, 1
    batch["code"][17] = 0
    done = client.submit(batch)
    assert len(done) == 20_000 and done.refused() == [(17, Verdict.CODE_ZERO)] and not done.all_ok
    outcomes = done.to_numpy()
    assert outcomes["verdict"][17] == Verdict.CODE_ZERO and outcomes["marks"][17] == 0
    assert (numpy.delete(outcomes["marks"], 17) == 1).all()
    assert outcomes["offset"][18] == done[18].offset and outcomes["timestamp"][18] == done[18].timestamp
    state = client.account(bert, tokens=done.tokens)
    assert state is not None and state.balance == 2 * 19_999
    again = client.submit(batch[::2])
    assert (again.to_numpy()["marks"] == 3).all(), "every second one, though they do not lie side by side"
    log = client.read_log(client.partition_of(anna), done[0].offset or 0, tokens=done.tokens)
    assert (log.to_numpy()["event"]["amount"]["lo"] == 2).all() and len(log.to_numpy()) == len(log.records)
    with pytest.raises(TypeError):
        client.submit(numpy.zeros(3, "<u8"))


def test_accounts_come_from_arrays(client: Client, book: int) -> None:
    batch = arrays.accounts(5)
    batch["id"]["lo"], batch["id"]["hi"] = range(1, 6), book << 32
    batch["ledger"], batch["code"] = 1, 9
    made = client.create_accounts(batch)
    assert made.all_ok and client.create_accounts(numpy.where(True, batch, batch)).all_ok
    found = client.accounts(arrays.u128s(batch["id"]), tokens=made.tokens)
    assert [account and account.code for account in found] == [9] * 5


def test_tables_of_pandas_lose_nothing() -> None:
    table = pandas.DataFrame(
        {
            "id": ["rent of May", uuid.UUID(int=5), 6],
            "debit_account_id": ["anna", 2, 3],
            "credit_account_id": [9, 9, 9],
            "amount": pandas.Series([BIG, 2, 3], dtype=object),
            "ledger": [978, 978, 978],
            "code": [1, 2, 3],
        }
    )
    batch = frames.transfers_of(table)
    assert arrays.u128s(batch["amount"]) == [BIG, 2, 3]
    assert arrays.u128s(batch["id"]) == [event_id("rent of May"), 5, 6]
    back = frames.to_pandas(batch)
    assert back["amount"].sum() == BIG + 5 and back["id"][1] == uuid.UUID(int=5)
    assert (frames.transfers_of(back) == batch).all()
    for wrong, why in (({"amount": [1.5]}, TypeError), ({"cost": [1]}, ValueError), ({"code": [70_000]}, OverflowError)):
        with pytest.raises(why):
            frames.transfers_of(pandas.DataFrame(wrong))
    fresh = frames.transfers_of(table.drop(columns="id"))
    assert len(set(arrays.u128s(fresh["id"]))) == 3


def test_tables_of_arrow_lose_nothing() -> None:
    batch = arrays.transfers(3)
    most = 10**38 - 1
    arrays.set_u128s(batch["amount"], [1, most, 2**64])
    batch["debit_account_id"]["lo"], batch["code"] = [7, 8, 9], [1, 2, 3]
    table = frames.to_arrow(batch)
    assert table["amount"].to_pylist() == [Decimal(1), Decimal(most), Decimal(2**64)]
    assert table["debit_account_id"][0].as_py() == uuid.UUID(int=7).bytes
    assert (frames.transfers_of(table) == batch).all()

    class Capsule:
        """What only hands itself over as Arrow does."""

        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return table.__arrow_c_stream__(requested_schema)

    assert (frames.transfers_of(Capsule()) == batch).all()
    arrays.set_u128s(batch["amount"], [1, most + 1, 2])
    with pytest.raises(OverflowError):
        frames.to_arrow(batch)
    with pytest.raises(ValueError):
        frames.transfers_of(pyarrow.table({"amount": [Decimal("1.50")]}))
    accounts = frames.accounts_of(pyarrow.table({"id": ["anna", "bert"], "ledger": [1, 1], "code": [1, 1]}))
    assert isinstance(decode(accounts[:1].tobytes()), Account)
