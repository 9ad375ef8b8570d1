"""Are names and descriptions kept as they were given, and are decimals exact?"""

from __future__ import annotations

import asyncio
import decimal
import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from walengine import (
    AsyncClient,
    Client,
    Describe,
    DescribeFlags,
    Ledger,
    Name,
    Transfer,
    Verdict,
    account_id,
    chain,
    decode,
)

Open = Callable[..., list[int]]


def test_a_name_is_kept_and_found(client: Client, book: int, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    text = f"Anna Novák {book}"
    naming = Name(anna, text)
    first, again = client.submit([naming]), client.submit([naming])
    assert first.all_ok and (again[0].verdict, again[0].fresh) == (Verdict.OK, False)
    assert client.names([bert, anna, "nobody"], tokens=first.tokens) == [None, text, None]
    decision = client.transfers([naming.id], tokens=first.tokens)[0]
    assert decision is not None and decision.event == naming
    found = client.find_names(text.upper(), client.partition_of(anna), tokens=first.tokens)
    assert [(of.id, of.name) for of in found.accounts] == [(anna, text)] and found.next_cursor is None
    assert client.name_account(anna, "").ok
    assert client.names([anna]) == [None]
    nobody = client.name_account(account_id("nobody", book), "x")
    assert nobody.verdict is Verdict.NAME_ACCOUNT_NOT_FOUND


def test_pages_of_names_end(client: Client, book: int, opened: Open) -> None:
    ids = opened(*(f"{book} {at}" for at in range(9)))
    assert client.submit(Name(id, f"{book} {at}") for at, id in enumerate(ids)).all_ok
    found, after = [], None
    for partition in range(client.info.partitions):
        while True:
            page = client.find_names(str(book), partition, after=after, limit=2)
            assert len(page.accounts) <= 2
            found += [of.id for of in page.accounts]
            after = page.next_cursor
            if after is None:
                break
    assert sorted(found) == sorted(ids)


def test_a_name_may_be_in_a_chain(client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    refused = client.submit(chain(Name(anna, "Anna"), Transfer(anna, anna, 1, ledger=1, code=1)))
    assert not refused[0].ok and client.names([anna]) == [None]
    assert client.submit(chain(Name(anna, "Anna"), Name(anna, "Anna N."))).all_ok
    assert client.names([anna, bert]) == ["Anna N.", None]


@pytest.mark.parametrize("text", ["x" * 81, " x", "a\nb", "a\u202eb"])
def test_what_hides_is_no_name(client: Client, opened: Open, text: str) -> None:
    (anna,) = opened("anna")
    with pytest.raises(ValueError, match="a name has"):
        client.name_account(anna, text)


def test_a_ledger_is_described(client: Client, server: str, book: int) -> None:
    number = 2**31 + book % 2**31
    assert client.describe_ledger(number, "EUR", scale=2).ok
    assert Ledger(number, "EUR", 2) in client.ledgers()
    assert client.describe_ledger(number, "EUR", scale=3).verdict is Verdict.LEDGER_SCALE_DIFFERS
    assert client.describe_ledger(number, "Euro", scale=3, rescale=True).ok
    assert client.describe_ledger(number, "Euro", scale=39).verdict is Verdict.SCALE_TOO_LARGE

    async def by_the_other_face() -> list[Ledger]:
        async with await AsyncClient.connect(server) as bank:
            return await bank.ledgers()

    assert Ledger(number, "Euro", 3) in asyncio.run(by_the_other_face())


def test_events_are_what_they_were() -> None:
    for event in (Name("anna", "日本"), Describe(978, "EUR", scale=38, flags=DescribeFlags.RESCALE)):
        assert decode(event.to_bytes()) == event
    broken = bytearray(Name("anna", "ab").to_bytes())
    broken[40] = ord("c")  # behind a gap
    with pytest.raises(ValueError, match="no name"):
        decode(bytes(broken))


def test_decimals_are_exact() -> None:
    numbers = random.Random(5)
    with decimal.localcontext() as context:
        context.prec = 3  # nothing may depend on it
        for _ in range(1000):
            of = Ledger(1, "", numbers.randrange(39))
            amount = numbers.randrange(2 ** numbers.randrange(1, 129))
            shown = of.decimal(amount)
            assert of.amount(shown) == amount and of.amount(f"{shown:f}") == amount
            assert of.decimal(-amount) == shown.copy_negate()
    eur = Ledger(978, "EUR", 2)
    assert [eur.amount(one) for one in (12, "12.3", "0012.340", Decimal("1E+3"), Decimal("-0.00"), "0.000")] == [
        1200, 1230, 1234, 100_000, 0, 0,
    ]  # fmt: skip
    largest = 2**128 - 1
    assert eur.amount(eur.decimal(largest)) == largest


@pytest.mark.parametrize(
    "value",
    [
        *("", ".", "1.", ".5", "-1", "+1", "1e2", "1,5", " 1", "1\n", "١", "1.234", "0.001"),
        *(Decimal("-0.01"), Decimal("NaN"), Decimal("Infinity"), Decimal("1E+999999"), Decimal("1E-999999"), -1),
        *(2**128, "3402823669209384634633746074317682114.56"),
    ],
)
def test_what_is_no_amount_is_refused(value: Decimal | int | str) -> None:
    with pytest.raises(ValueError):
        Ledger(978, "EUR", 2).amount(value)


def test_floats_are_not_exact() -> None:
    for value in (0.1, True):
        with pytest.raises(TypeError):
            Ledger(978, "EUR", 2).amount(value)  # type: ignore[arg-type]
