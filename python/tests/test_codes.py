"""Are the enums those of the Rust client, and the stubs those of the enums?"""

import re
from pathlib import Path

import walengine
from walengine import ErrorCode, EventKind, TransferFlags, Verdict, _stubs

HERE = Path(walengine.__file__).parent
SOURCE = Path(__file__).parent.parent.parent / "net" / "src"


def pairs(file: str, enum: str) -> dict[str, int]:
    """Names and numbers of an enum in a Rust source."""
    body = re.search(rf"pub enum {enum} \{{(.*?)\n\}}", (SOURCE / file).read_text(), re.S)
    assert body is not None
    found = re.findall(r"^    (\w+) = (\d+),", body[1], re.M)
    return {re.sub(r"(?<=.)([A-Z])", r"_\1", name).upper(): int(number) for name, number in found}


def test_verdicts_have_the_numbers_of_the_source() -> None:
    assert {one.name: int(one) for one in Verdict} == pairs("model/verdict.rs", "Verdict")
    assert {one.name: int(one) for one in ErrorCode} == pairs("message/error.rs", "ErrorCode")
    assert {one.name: int(one) for one in EventKind} == pairs("model/event/mod.rs", "EventKind")


def test_verdicts_say_what_they_are() -> None:
    assert [one for one in Verdict if one.is_ok] == [Verdict.OK]
    malformed = [one for one in Verdict if one.is_malformed]
    assert malformed == [one for one in Verdict if 0 < one < 40]
    assert Verdict.ID_REUSED.meaning == "the id was used before with another body"
    assert TransferFlags.PENDING | TransferFlags.LINKED == 3


def test_the_stubs_name_every_member() -> None:
    assert (HERE / "_codes.pyi").read_text() == _stubs.text(), "python -m walengine._stubs >package/walengine/_codes.pyi"
