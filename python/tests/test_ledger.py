"""Does each call do with the ledger what it says, and does it say truly what happened?"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from walengine import (
    AccountFlags,
    Client,
    Close,
    Guard,
    NothingChanged,
    Opaque,
    ReadFrom,
    Token,
    TooMany,
    Transfer,
    TransferFlags,
    Unreachable,
    Verdict,
    WrongCluster,
    account_id,
    chain,
    new_id,
)

Open = Callable[..., list[int]]
LIMITED = AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS


def test_money_moves_once(client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    one = Transfer(anna, bert, 500, ledger=1, code=7)
    first, again = client.submit([one]), client.submit([one])
    assert (first[0].verdict, first[0].fresh) == (Verdict.OK, True)
    assert (again[0].verdict, again[0].fresh, again[0].offset) == (Verdict.OK, False, first[0].offset)
    other = Transfer(anna, bert, 501, ledger=1, code=7, id=one.id)
    assert client.submit([other])[0].verdict is Verdict.ID_REUSED
    found = client.accounts([anna, bert, "nobody"], tokens=first.tokens)
    assert [account and account.balance for account in found] == [-500, 500, None]
    decision = client.transfers([one.id], tokens=first.tokens)[0]
    assert decision is not None and decision.verdict is Verdict.OK
    assert isinstance(decision.event, Transfer) and decision.event.amount == 500


def test_a_refusal_is_a_verdict_and_stays(client: Client, opened: Open) -> None:
    (poor,), (shop,) = opened("poor", flags=LIMITED), opened("shop")
    id = new_id()
    refused = client.transfer(poor, shop, 1, ledger=1, code=1, id=id)
    assert refused.verdict is Verdict.EXCEEDS_CREDITS and not refused.ok
    assert client.transfer(shop, poor, 10, ledger=1, code=1).ok
    again = client.transfer(poor, shop, 1, ledger=1, code=1, id=id)
    assert again.verdict is Verdict.EXCEEDS_CREDITS and not again.fresh
    known = client.verdicts([id, new_id()])
    assert known[0] is not None and known[0].verdict is Verdict.EXCEEDS_CREDITS and known[1] is None
    of_accounts = client.account_verdicts([poor, new_id()])
    assert of_accounts[0] is not None and of_accounts[0].verdict.is_ok and of_accounts[1] is None


def test_malformed_events_have_no_record(client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    nothing = client.transfer(anna, bert, 0, ledger=1, code=1)
    assert nothing.verdict is Verdict.AMOUNT_ZERO and nothing.offset is None


def test_a_chain_takes_effect_whole_or_not_at_all(client: Client, opened: Open) -> None:
    (anna,), (bert,) = opened("anna", flags=LIMITED), opened("bert")
    assert client.transfer(bert, anna, 100, ledger=1, code=1).ok

    def pay(amount: int) -> Transfer:
        return Transfer(anna, bert, amount, ledger=1, code=1)

    whole = client.submit(chain(Guard.can_debit(anna, 100), pay(30), pay(30)))
    assert whole.all_ok
    too_little = client.submit(chain(Guard.can_debit(anna, 100), pay(1), pay(1)))
    verdicts = [outcome.verdict for outcome in too_little]
    assert verdicts == [Verdict.GUARD_BALANCE_TOO_LOW] + 2 * [Verdict.LINKED_EVENT_FAILED]
    state = client.account(anna, tokens=whole.tokens)
    assert state is not None and state.balance == 40
    changed = client.submit(chain(Guard.version_is(anna, state.version - 1), pay(1)))
    assert changed.refused()[0] == (0, Verdict.GUARD_VERSION_DIFFERS)


def test_reservations_are_posted_and_voided(client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    held, given_up = (
        Transfer(anna, bert, 50, ledger=1, code=1, flags=TransferFlags.PENDING, timeout_seconds=600) for _ in range(2)
    )
    assert client.submit([held, given_up]).all_ok
    ended = client.submit([Transfer.post(held, 20), Transfer.void(given_up), Transfer.post(held)])
    assert [outcome.verdict for outcome in ended] == [Verdict.OK, Verdict.OK, Verdict.PENDING_ALREADY_POSTED]
    state = client.account(bert, tokens=ended.tokens)
    assert state is not None and (state.credits_posted, state.credits_pending) == (20, 0)
    log = client.read_log(ended.tokens[0].partition, ended[0].offset or 0, tokens=ended.tokens)
    posted = log.records[0]
    assert posted.resolved is not None and (posted.resolved.amount, posted.resolved.debit_account_id) == (20, anna)


def test_accounts_close(client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    closed = client.submit([Close(anna), Transfer(anna, bert, 1, ledger=1, code=1)])
    assert [outcome.verdict for outcome in closed] == [Verdict.OK, Verdict.DEBIT_ACCOUNT_CLOSED]
    state = client.account(anna, tokens=closed.tokens)
    assert state is not None and AccountFlags.CLOSED in state.flags


def test_ids_are_texts_uuids_and_numbers(client: Client, book: int) -> None:
    as_uuid = uuid.UUID("01901234-5678-7abc-8def-0123456789ab")
    assert account_id(str(as_uuid)) == account_id(as_uuid) == as_uuid.int
    assert account_id("alice", 7) >> 96 == 7
    assert account_id("alice") == 0x4BFDB6DC0C0121D4098AA5AE0C955E80 & 2**96 - 1
    with pytest.raises(OverflowError):
        Transfer(1, 2, -1, ledger=1, code=1).to_bytes()
    with pytest.raises(TypeError):
        Transfer(1.5, 2, 3, ledger=1, code=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Transfer(1, 2, 3.0, ledger=1, code=1).to_bytes()  # type: ignore[arg-type]


def test_opaque_records_come_back_in_their_order(client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    client.submit([Transfer(anna, bert, 1, ledger=1, code=1)], partition=client.partition_of(anna))
    partition = client.partition_of(anna)
    id = new_id()
    appended = client.append_records([(id, b"one"), (new_id(), b"")], partition=partition)
    start = appended[0].offset
    assert start is not None and appended.all_ok
    second = client.append_records([(new_id(), b"late")], partition=partition, expected=start)
    assert second[0].verdict is Verdict.OFFSET_DIFFERS
    log = client.read_log(partition, start - 1, tokens=second.tokens)
    assert [record.offset for record in log.records][:3] == [start - 1, start, start + 1]
    assert isinstance(log.records[0].event, Transfer) and log.records[0].event.amount == 1
    assert log.records[1].event == Opaque(id, None, b"one")
    inside = client.read_log(partition, start + 1).records
    assert inside[0].offset == start + 1, "a page begins where it was asked for, also inside an entry"


def test_a_log_is_followed_without_gap_or_repeat(client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    first = client.submit([Transfer(anna, bert, n + 1, ledger=1, code=1) for n in range(10)])
    start = first[0].offset
    assert start is not None
    follower = client.follow(client.partition_of(anna), start)
    seen: list[int] = []
    for more in range(3):
        while follower.next_offset < start + 10 * (more + 1):
            page = follower.next_page(within=10)
            assert page is not None
            seen += [record.offset for record in page.records]
        client.submit([Transfer(anna, bert, 1, ledger=1, code=1) for _ in range(10)])
    assert seen[:30] == list(range(start, start + 30))
    at_its_end = client.follow(client.partition_of(anna), follower.next_offset + 1000)
    assert at_its_end.next_page(within=0.01) is None


def test_accounts_are_listed_in_pages(client: Client, opened: Open) -> None:
    ids = opened("a", "b", "c")
    partition, cursor, found = client.partition_of(ids[0]), None, []
    while True:
        page = client.list_accounts(partition, after=cursor, limit=2)
        found += [account.id for account in page.accounts]
        if (cursor := page.next_cursor) is None:
            break
    assert found[-3:] == ids and len(set(found)) == len(found)


def test_tokens_are_texts_for_others(client: Client, opened: Open) -> None:
    anna, bert = opened("anna", "bert")
    token = client.submit([Transfer(anna, bert, 1, ledger=1, code=1)]).tokens[0]
    assert Token(str(token)) == token and hash(Token(str(token))) == hash(token)
    assert token.cluster == client.info.cluster and token.partition == client.partition_of(anna)
    with pytest.raises(ValueError):
        Token("1-2")
    foreign = Token(f"{token.cluster ^ 1:032x}-{token.partition}-0")
    with pytest.raises(WrongCluster):
        client.account(anna, tokens=[foreign])
    assert client.reading(ReadFrom.LINEARIZABLE).account(anna) is not None


def test_the_status_is_told(client: Client) -> None:
    status = client.server_status()
    assert any(name == "version" for _, name in status.texts)
    assert all(isinstance(value, int) for value in status.numbers.values())
    cluster = client.cluster_status()
    assert [group.partition for group in cluster.groups] == list(range(client.info.partitions))


def test_errors_say_that_nothing_changed(client: Client, opened: Open) -> None:
    with pytest.raises(Unreachable) as unreachable:
        Client.connect("127.0.0.1:1")
    assert not unreachable.value.may_have_changed and isinstance(unreachable.value, ConnectionError)
    anna, bert = opened("anna", "bert")
    with pytest.raises(TooMany):
        client.submit(bytes(128 * 8191), partition=0)
    with pytest.raises(NothingChanged):
        client.read_log(partition=999)
    with pytest.raises(ValueError):
        client.submit(b"not an event")
    with pytest.raises(ValueError):
        Client.connect("127.0.0.1:1", timeout=float("nan"))
    late = client.follow(999, 0)
    with pytest.raises(NothingChanged):
        late.next_page(within=5)
    client.close()
    with pytest.raises(NothingChanged):
        client.account(anna)
