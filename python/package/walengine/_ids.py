"""Ids: of text by the rules of PROTOCOL.md, of UUIDs and of numbers."""

from __future__ import annotations

import operator
import uuid
from typing import SupportsIndex

from walengine import _native

__all__ = ["AnyId", "account_id", "event_id", "new_id"]

#: What names an account or an event: a number, a UUID, or any text.
AnyId = str | uuid.UUID | SupportsIndex


def event_id(of: AnyId) -> int:
    """The id of an event, or of anything that is not an account.

    A text that is a UUID or a number is taken as that; any other text is hashed, in the same way in every client.

    >>> event_id("42"), event_id(42)
    (42, 42)
    >>> f"{event_id('alice'):032x}"
    '4bfdb6dc0c0121d4098aa5ae0c955e80'
    """
    if isinstance(of, str):
        return _native.event_id(of)
    return of.int if isinstance(of, uuid.UUID) else operator.index(of)


def account_id(of: AnyId, book: int = 0) -> int:
    """The id of an account in a book, which is the upper 32 bits of the id. Accounts of one book are fast together.

    A number or a UUID is taken as it is, with its own book; so is a text that is a UUID or a number of 2^96 and above.

    >>> hex(account_id("42", book=7))
    '0x700000000000000000000002a'
    >>> account_id(42)
    42
    """
    if isinstance(of, str):
        return _native.account_id(of, book)
    return of.int if isinstance(of, uuid.UUID) else operator.index(of)


def new_id() -> int:
    """A new id for an event: the number of a UUIDv7, unique without asking a server.

    >>> import uuid
    >>> uuid.UUID(int=new_id()).version
    7
    """
    return _native.new_id()
