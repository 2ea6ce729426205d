"""Python finds the recorder, or says what makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer import built
from profinfer.errors import KernelError


def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built, "BUILD", tmp_path)
    with pytest.raises(KernelError, match=r"there is no recorder: .*profinfer-recorder") as caught:
        built.recorder_binary()
    assert caught.value.hint == "make setup builds it"


def test_found() -> None:
    assert built.recorder_binary().name == "profinfer-recorder"
