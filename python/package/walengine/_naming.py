"""Names of accounts, and descriptions of ledgers: what an asset is called and where the point stands in amounts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from walengine import _native
from walengine._codes import DescribeFlags, NameFlags
from walengine._ids import AnyId, account_id, event_id, new_id

__all__ = ["Describe", "Ledger", "Name", "NamedAccount", "NamesPage"]

_AMOUNT_MAX = 2**128 - 1
_PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?")
_set = object.__setattr__


@dataclass(frozen=True, init=False, slots=True)
class Name:
    """Names an account for people, or with an empty text takes its name away. Two accounts may have the same.
    ``to_bytes`` raises ``ValueError`` for a text that can't be a name: at most 80 bytes, and nothing that hides.

    >>> Name("anna", "Anna Novák") == Name("anna", "Anna Novák")  # each has an id of its own
    False
    """

    id: int
    account_id: int
    name: str
    flags: NameFlags

    def __init__(self, account: AnyId, name: str, *, flags: int = 0, id: AnyId | None = None) -> None:
        _set(self, "id", new_id() if id is None else event_id(id))
        _set(self, "account_id", account_id(account))
        _set(self, "name", name)
        _set(self, "flags", NameFlags(flags))

    def with_flags(self, flags: int) -> Name:
        """The same with other flags."""
        return Name(self.account_id, self.name, flags=flags, id=self.id)

    def to_bytes(self) -> bytes:
        """Its 128 bytes."""
        return _native.encode_name(self.id, self.account_id, self.name, self.flags)


@dataclass(frozen=True, init=False, slots=True)
class Describe:
    """Describes a ledger. Its scale stays, unless ``DescribeFlags.RESCALE`` says that it was wrong."""

    id: int
    ledger: int
    name: str
    #: Digits behind the point.
    scale: int
    flags: DescribeFlags

    def __init__(self, ledger: int, name: str, *, scale: int, flags: int = 0, id: AnyId | None = None) -> None:
        _set(self, "id", new_id() if id is None else event_id(id))
        _set(self, "ledger", ledger)
        _set(self, "name", name)
        _set(self, "scale", scale)
        _set(self, "flags", DescribeFlags(flags))

    def with_flags(self, flags: int) -> Describe:
        """The same with other flags."""
        return Describe(self.ledger, self.name, scale=self.scale, flags=flags, id=self.id)

    def to_bytes(self) -> bytes:
        """Its 128 bytes."""
        return _native.encode_describe(self.id, self.ledger, self.name, self.scale, self.flags)


@dataclass(frozen=True, slots=True)
class NamedAccount:
    """An account that has a name."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class NamesPage:
    """Some of a partition's accounts that have a name, in the order of their names."""

    accounts: list[NamedAccount]
    #: Where the next page starts; ``None`` on the last one. A page may be empty without being the last.
    next_cursor: int | None


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the amounts of a ledger are. Both directions are exact: nothing is rounded, whatever the context of
    ``decimal`` says.

    >>> eur = Ledger(978, "EUR", scale=2)
    >>> eur.amount("12.3"), eur.decimal(1230)
    (1230, Decimal('12.30'))
    """

    ledger: int
    #: What its asset is called, such as ``EUR``; it may be empty.
    name: str
    #: Digits behind the point.
    scale: int

    def decimal(self, amount: int) -> Decimal:
        """An amount or a balance of whole minor units, with the point in its place."""
        digits = tuple(map(int, str(abs(amount))))
        return Decimal((int(amount < 0), digits, -self.scale))

    def amount(self, value: Decimal | int | str) -> int:
        """Minor units of a number as people write it. ``ValueError`` if it is below zero, has more decimals than
        the ledger, or does not fit; ``TypeError`` for a ``float``, which is not exact."""
        if isinstance(value, str) and not _PLAIN.fullmatch(value):
            raise ValueError(f"{value!r} is no amount")
        if isinstance(value, bool) or not isinstance(value, (Decimal, int, str)):
            raise TypeError(f"an amount is a Decimal, an int or a str, not a {type(value).__name__}")
        sign, digits, exponent = Decimal(value).as_tuple()
        if not isinstance(exponent, int):
            raise ValueError(f"{value} is no amount")
        whole = "".join(map(str, digits)).lstrip("0")
        if not whole:
            return 0
        if sign:
            raise ValueError(f"{value} is below zero")
        # The exponent may be anything, so the digits are looked at before anything is multiplied.
        shift = exponent + self.scale
        if shift < 0:
            whole, behind = whole[:shift], whole[shift:]
            if behind.strip("0") or not whole:
                raise ValueError(f"{value} has more than {self.scale} decimals")
            shift = 0
        if len(whole) + shift > len(str(_AMOUNT_MAX)) or int(whole + "0" * shift) > _AMOUNT_MAX:
            raise ValueError(f"{value} does not fit into 128 bits")
        return int(whole + "0" * shift)
