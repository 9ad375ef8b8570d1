"""Do the two faces have the same methods, but for ``async``?"""

from __future__ import annotations

import inspect
import re

import pytest

from walengine import AsyncClient, AsyncSubscription, Client, Subscription

RENAMED = {"aenter": "enter", "aexit": "exit", "aiter": "iter", "anext": "next"}


def face(of: type) -> dict[str, tuple[str, str]]:
    """Signature and docstring of each method, in the words of the face for threads."""

    def plain(text: object) -> str:
        return re.sub(r"\bAsync(?=[A-Z])", "", str(text))

    found = {}
    for name, member in vars(of).items():
        made = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(made):
            name = re.sub(r"^__(\w+)__$", lambda bare: f"__{RENAMED.get(bare[1], bare[1])}__", name)
            found[name] = plain(inspect.signature(made)), plain(inspect.getdoc(made))
    return found


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Subscription, AsyncSubscription)])
def test_the_faces_are_the_same(one: type, other: type) -> None:
    assert face(one) == face(other)


def test_what_waits_is_async() -> None:
    at_once = {"__init__", "close", "info", "partition_of", "reading", "follow", "__iter__", "next_offset"}
    for cls in (AsyncClient, AsyncSubscription):
        for name, member in vars(cls).items():
            made = getattr(member, "__func__", member)
            if inspect.isfunction(made) and name.replace("__aiter__", "__iter__") not in at_once:
                assert inspect.iscoroutinefunction(made), name
