"""Batches as numpy arrays: the 128 bytes of an event are one item. Needs numpy.

A number of 128 bits is a pair of numbers of 64 bits, ``lo`` and ``hi``, so that whole columns are set at once:

>>> batch = transfers(3)
>>> batch["debit_account_id"]["lo"] = [1, 1, 2]
>>> batch["credit_account_id"]["lo"] = [2, 3, 3]
>>> batch["amount"]["lo"] = 500
>>> batch["ledger"], batch["code"] = 978, 1
>>> u128s(batch["amount"])
[500, 500, 500]

``client.submit(batch)`` takes such an array as it is. The layout is that of FORMAT.md, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy

from walengine import _native
from walengine._codes import EventKind

__all__ = [
    "ACCOUNT",
    "OUTCOME",
    "RECORD",
    "RESOLVED",
    "TRANSFER",
    "U128",
    "Array",
    "accounts",
    "outcomes",
    "plain",
    "records",
    "set_u128s",
    "transfers",
    "u128s",
]

Array: TypeAlias = numpy.ndarray[Any, numpy.dtype[numpy.void]]

#: A number of 128 bits.
U128 = numpy.dtype([("lo", "<u8"), ("hi", "<u8")])
#: A transfer. The upper four bits of ``flags`` are its kind, which is 0.
TRANSFER = numpy.dtype(
    [
        ("id", U128),
        ("debit_account_id", U128),
        ("credit_account_id", U128),
        ("amount", U128),
        ("pending_id", U128),
        ("user_data_128", U128),
        ("user_data_64", "<u8"),
        ("user_data_32", "<u4"),
        ("timeout_seconds", "<u4"),
        ("ledger", "<u4"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("timestamp", "<u8"),
    ]
)
#: An account. The upper four bits of ``flags`` are its kind; ``create_accounts`` sets them.
ACCOUNT = numpy.dtype(
    [
        ("id", U128),
        ("debits_pending", U128),
        ("debits_posted", U128),
        ("credits_pending", U128),
        ("credits_posted", U128),
        ("user_data_128", U128),
        ("user_data_64", "<u8"),
        ("version", "<u8"),
        ("ledger", "<u4"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("timestamp", "<u8"),
    ]
)
#: Effective accounts and amount of an event that does not tell them itself.
RESOLVED = numpy.dtype(
    [
        ("debit_account_id", U128),
        ("credit_account_id", U128),
        ("amount", U128),
        ("index", "<u4"),
        ("ledger", "<u4"),
        ("code", "<u2"),
        ("zeros", "V6"),
    ]
)
#: What became of an event. ``marks``: 1, it has a record; 2, it was decided by an earlier request.
OUTCOME = numpy.dtype([("verdict", "u1"), ("marks", "u1"), ("offset", "<u8"), ("timestamp", "<u8")])
#: A record of the log with an event, shown as a transfer: ``event.view`` shows it as another kind.
RECORD = numpy.dtype(
    [
        ("offset", "<u8"),
        ("timestamp", "<u8"),
        ("verdict", "u1"),
        ("has_resolved", "u1"),
        ("zeros", "V6"),
        ("event", TRANSFER),
        ("resolved", RESOLVED),
    ]
)
_KIND_SHIFT = 12


def transfers(count: int) -> Array:
    """So many transfers with new ids, all else zero."""
    batch = numpy.zeros(count, TRANSFER)
    batch["id"] = numpy.frombuffer(_native.new_ids(count), U128)
    return batch


def accounts(count: int) -> Array:
    """So many accounts, all zero but for their kind."""
    batch = numpy.zeros(count, ACCOUNT)
    batch["flags"] = EventKind.ACCOUNT << _KIND_SHIFT
    return batch


def outcomes(data: bytes) -> Array:
    """Outcomes over their bytes."""
    return numpy.frombuffer(data, OUTCOME)


def records(data: bytes) -> Array:
    """Records over their bytes."""
    return numpy.frombuffer(data, RECORD)


def plain(events: Any) -> Any:
    """The bytes of an array of events, without a copy if they lie side by side. ``TypeError`` if it is none."""
    array = numpy.ascontiguousarray(events)
    if array.dtype.itemsize == _native.EVENT_BYTES:
        return array.reshape(-1).view(numpy.uint8)
    if array.dtype == numpy.uint8:
        return array.reshape(-1)
    raise TypeError(f"an event has {_native.EVENT_BYTES} bytes, and an item of this array {array.dtype.itemsize}")


def u128s(column: Any) -> list[int]:
    """The numbers of a column of pairs, as Python's own."""
    return [hi << 64 | lo for lo, hi in zip(column["lo"].tolist(), column["hi"].tolist(), strict=True)]


def set_u128s(column: Any, numbers: Iterable[int]) -> None:
    """Sets a column of pairs to numbers from 0 to 2^128 - 1. ``OverflowError`` if one is not."""
    data = b"".join(number.to_bytes(16, "little") for number in numbers)
    column[...] = numpy.frombuffer(data, U128)
