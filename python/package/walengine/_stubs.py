"""Writes ``_codes.pyi``: ``python -m walengine._stubs >package/walengine/_codes.pyi``. A test compares them."""

from __future__ import annotations

from walengine import _codes

_PROPERTIES = """    @property
    def is_ok(self) -> bool: ...
    @property
    def is_malformed(self) -> bool: ...
    @property
    def meaning(self) -> str: ...
"""


def text() -> str:
    """The stub for the module as it is."""
    lines = [
        '"""Written by ``python -m walengine._stubs``: do not edit."""',
        "",
        "from enum import IntEnum, IntFlag",
        "",
        f"__all__ = {sorted(_codes.__all__)!r}".replace("'", '"'),
        "",
    ]
    for name in sorted(_codes.__all__):
        made = getattr(_codes, name)
        base = "IntFlag" if name.endswith("Flags") else "IntEnum"
        lines.append(f"class {name}({base}):")
        lines += [f"    {member.name} = {int(member)}" for member in made]
        lines.append(_PROPERTIES if name == "Verdict" else "")
    return "\n".join(lines)


if __name__ == "__main__":
    print(text(), end="")
