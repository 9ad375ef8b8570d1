"""The enums of the protocol, made of the tables of the Rust client: no number is written here.

``_codes.pyi`` names the members for type checkers; ``python -m walengine._stubs`` writes it.
"""

from __future__ import annotations

import enum

from walengine import _native

__all__ = [
    "AccountFlags",
    "CloseFlags",
    "DescribeFlags",
    "ErrorCode",
    "EventKind",
    "GuardFlags",
    "NameFlags",
    "TransferFlags",
    "Verdict",
]

_MEANINGS = {number: meaning for number, _, meaning, _ in _native.verdicts()}
_MALFORMED = {number for number, _, _, is_malformed in _native.verdicts() if is_malformed}


class _Verdict(enum.IntEnum):
    @property
    def is_ok(self) -> bool:
        """The event took effect."""
        return self == 0

    @property
    def is_malformed(self) -> bool:
        """Answered without a record in the log: the event can't be accepted in any state, or not from its sender."""
        return int(self) in _MALFORMED

    @property
    def meaning(self) -> str:
        """The reason in words, for people."""
        return _MEANINGS[int(self)]


def _members(rows):
    return [(name.upper(), number) for number, name in rows]


def _flags(of, name, doc):
    made = enum.IntFlag(name, _members(_native.flags(of)), module=__name__)
    made.__doc__ = doc
    return made


Verdict = _Verdict("Verdict", [(name.upper(), number) for number, name, _, _ in _native.verdicts()], module=__name__)
Verdict.__doc__ = """What was decided about an event, once and for ever. Every number but 0 is a refusal."""

ErrorCode = enum.IntEnum("ErrorCode", _members(_native.error_codes()), module=__name__)
ErrorCode.__doc__ = """Why a server refused a request as a whole."""

EventKind = enum.IntEnum("EventKind", _members(_native.event_kinds()), module=__name__)
EventKind.__doc__ = """What an event is. Clients send accounts, transfers, guards, closes, names and descriptions; leaders write the others."""

AccountFlags = _flags("account", "AccountFlags", "Limits and state of an account.")
TransferFlags = _flags("transfer", "TransferFlags", "What kind of transfer.")
GuardFlags = _flags("guard", "GuardFlags", "Conditions of a guard. All that are set must hold.")
CloseFlags = _flags("close", "CloseFlags", "Closes an account or reopens it.")
NameFlags = _flags("name", "NameFlags", "What kind of naming.")
DescribeFlags = _flags("describe", "DescribeFlags", "What kind of description.")
