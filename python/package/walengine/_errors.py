"""Exceptions. Each says whether anything may have happened: by its class, and by ``may_have_changed``.

A refusal of an event is no exception but its verdict: see :class:`walengine.Verdict`.
"""

from __future__ import annotations

from typing import ClassVar

from walengine._codes import ErrorCode

__all__ = [
    "BadAnswer",
    "ClientClosed",
    "DeadlineExceeded",
    "Error",
    "Insecure",
    "NoLeader",
    "NotWalengine",
    "NothingChanged",
    "OutcomeUnknown",
    "RequestRefused",
    "TooMany",
    "Unreachable",
    "Unroutable",
    "VersionDiffers",
    "WrongCluster",
]


class Error(Exception):
    """A call has no answer. Either :class:`NothingChanged` or :class:`OutcomeUnknown`."""

    #: Whether a write may have taken effect all the same.
    may_have_changed: ClassVar[bool] = True
    #: The code, if a server refused the request.
    code: ErrorCode | None = None
    #: When to try again, in seconds; 0: no hint.
    retry_after: float = 0.0


class OutcomeUnknown(Error):
    """A write may have taken effect, or a part of its batches. Ask for the verdicts of its ids, or send the same
    events again: each id has one verdict, so that is safe."""

    may_have_changed = True


class NothingChanged(Error):
    """Nothing was changed: it was not sent, or refused before it was taken, or only asked for something."""

    may_have_changed = False


class Unreachable(NothingChanged, ConnectionError):
    """No server answers there."""


class Insecure(NothingChanged, ConnectionError):
    """Who is there was not proven, or does not believe who asks; or the credentials can't be used."""


class NotWalengine(NothingChanged, ConnectionError):
    """Another program listens there, or the stream was damaged."""


class VersionDiffers(NothingChanged):
    """The server speaks another version of the protocol."""


class RequestRefused(NothingChanged):
    """The server refused the request: ``code`` says why."""


class NoLeader(NothingChanged):
    """No node that leads the partition was found in time."""


class DeadlineExceeded(NothingChanged, TimeoutError):
    """There was no answer in time, and nothing was sent that could have changed anything."""


class TooMany(NothingChanged, ValueError):
    """More was asked for at once than there may be."""


class Unroutable(NothingChanged, ValueError):
    """An event names no account, so its partition can't be told: name the accounts, or the partition."""


class WrongCluster(NothingChanged):
    """A token or a server belongs to another cluster."""


class BadAnswer(NothingChanged):
    """The answer to a read makes no sense. The server is at fault."""


class ClientClosed(NothingChanged):
    """The client has been closed."""


def make(kind: str, message: str, code: int | None, retry_after: float, may_have_changed: bool) -> Error:
    """The exception for an error of the Rust client."""
    made = OutcomeUnknown if may_have_changed else globals().get(kind, NothingChanged)
    error: Error = made(message)
    error.code = None if code is None else ErrorCode(code)
    error.retry_after = retry_after
    return error
