"""Batches from and to tables of pandas and Arrow, by way of :mod:`walengine.arrays`. Needs numpy, and pandas or
pyarrow.

Columns have the names of the fields. Ids are given as texts, UUIDs or numbers and come back as UUIDs in pandas, and as
16 bytes in Arrow, the first digit of a UUID first. Amounts are whole numbers: ``int`` in pandas, ``decimal128(38, 0)``
in Arrow; a float is refused, since it can't hold every amount. What a table lacks is zero; a transfer without an id
gets a new one.
"""

from __future__ import annotations

import decimal
import operator
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy

from walengine import arrays
from walengine._ids import account_id, event_id

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["accounts_of", "to_arrow", "to_pandas", "transfers_of"]

#: Fields that name something; the other numbers of 128 bits are amounts.
_IDS: dict[str, Callable[[Any], int]] = {
    "id": event_id,
    "debit_account_id": account_id,
    "credit_account_id": account_id,
    "pending_id": event_id,
    "user_data_128": event_id,
}
#: Largest amount of Arrow's ``decimal128(38, 0)``, and one more.
_DECIMAL_END = 10**38
_LOW = 2**64


def transfers_of(table: Any) -> arrays.Array:
    """Transfers of a table of pandas, or of any that hands itself over as Arrow does (pyarrow, polars, DuckDB)."""
    columns = _columns(table)
    count = len(next(iter(columns.values()), ()))
    batch = arrays.transfers(count) if "id" not in columns else numpy.zeros(count, arrays.TRANSFER)
    return _filled(batch, columns, dict(_IDS))


def accounts_of(table: Any) -> arrays.Array:
    """Accounts of such a table."""
    columns = _columns(table)
    batch = arrays.accounts(len(next(iter(columns.values()), ())))
    kind = batch["flags"].copy()
    batch = _filled(batch, columns, {**_IDS, "id": account_id})
    batch["flags"] |= kind
    return batch


def to_pandas(batch: arrays.Array) -> pandas.DataFrame:
    """A batch, or accounts or outcomes, as a data frame of pandas."""
    import pandas

    return pandas.DataFrame({name: _listed(batch, name) for name in _names(batch)})


def to_arrow(batch: arrays.Array) -> pyarrow.Table:
    """The same as a table of Arrow, which others take without a copy. ``OverflowError`` if an amount has more than
    38 digits."""
    import pyarrow

    return pyarrow.table({name: _arrow(pyarrow, batch, name) for name in _names(batch)})


def _names(batch: arrays.Array) -> Iterable[str]:
    return batch.dtype.names or ()


def _columns(table: Any) -> dict[str, Any]:
    """The columns of a table by name, each with its values one by one, or as an array of numbers."""
    if hasattr(table, "iloc"):
        return {str(name): table[name] for name in table.columns}
    import pyarrow

    if not isinstance(table, pyarrow.Table):
        table = pyarrow.table(table)
    return dict(zip(table.column_names, table.columns, strict=True))


def _filled(batch: arrays.Array, columns: dict[str, Any], ids: dict[str, Callable[[Any], int]]) -> arrays.Array:
    unknown = sorted(set(columns) - set(_names(batch)))
    if unknown:
        raise ValueError(f"no such field: {', '.join(unknown)}; there are {', '.join(_names(batch))}")
    for name, column in columns.items():
        if batch.dtype[name] == arrays.U128:
            arrays.set_u128s(batch[name], _numbers(column, ids.get(name, _amount)))
        else:
            batch[name] = _checked(name, column, batch.dtype[name])
    return batch


def _values(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist() if hasattr(column, "to_pylist") else column.tolist()
    return values


def _numbers(column: Any, rule: Callable[[Any], int]) -> Iterable[int]:
    for value in _values(column):
        if isinstance(value, bytes) and len(value) == 16:
            yield int.from_bytes(value, "big")
        elif isinstance(value, decimal.Decimal):
            yield _amount(value)
        else:
            yield rule(value)


def _amount(value: Any) -> int:
    if isinstance(value, decimal.Decimal):
        if value != value.to_integral_value():
            raise ValueError(f"not a whole number of the smallest unit: {value}")
        return int(value)
    return operator.index(value)


def _checked(name: str, column: Any, of: numpy.dtype[Any]) -> Any:
    """Numbers of up to 64 bits: numpy would cut what does not fit."""
    numbers = [operator.index(value) for value in _values(column)]
    end = 1 << 8 * of.itemsize
    if wrong := [number for number in numbers if not 0 <= number < end]:
        raise OverflowError(f"{name} is not from 0 to {end - 1}: {wrong[0]}")
    return numpy.array(numbers, of)


def _listed(batch: arrays.Array, name: str) -> Any:
    column = batch[name]
    if batch.dtype[name] != arrays.U128:
        return column
    numbers = arrays.u128s(column)
    listed = [uuid.UUID(int=number) for number in numbers] if name in _IDS else numbers
    # Python's own numbers: a sum of them never wraps.
    objects = numpy.empty(len(listed), object)
    objects[:] = listed
    return objects


def _arrow(pyarrow: Any, batch: arrays.Array, name: str) -> Any:
    column = batch[name]
    if batch.dtype[name] != arrays.U128:
        return pyarrow.array(numpy.ascontiguousarray(column))
    if name in _IDS:
        pairs = numpy.empty((len(column), 2), ">u8")
        pairs[:, 0], pairs[:, 1] = column["hi"], column["lo"]
        made = pyarrow.binary(16)
        data = pairs.tobytes()
    else:
        high, low = divmod(_DECIMAL_END, _LOW)
        if numpy.any((column["hi"] > high) | ((column["hi"] == high) & (column["lo"] >= low))):
            raise OverflowError(f"{name} has an amount of more than 38 digits, which Arrow's decimal128 can't hold")
        made = pyarrow.decimal128(38, 0)
        data = column.tobytes()
    return pyarrow.Array.from_buffers(made, len(column), [None, pyarrow.py_buffer(data)])
