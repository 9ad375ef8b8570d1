"""Do the first lines of the README do what they say?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_a_first_transfer_in_five_lines(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    block = re.search(r"```python\n(.*?)```", README.read_text(), re.S)
    assert block is not None and len(block[1].splitlines()) == 5
    exec(block[1].replace("connect()", f"connect({server!r})"), {})
    verdict, account = capsys.readouterr().out.splitlines()
    assert verdict == "OK" and "credits_posted=" in account
