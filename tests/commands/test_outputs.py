"""What `record` writes: nobody's files are in the way when it is too late to say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.commands.outputs import Outputs
from profinfer.config import Config
from profinfer.errors import OutputError


def _config(folder: Path, *, force: bool = False, raw: bool = False) -> Config:
    kept = str(folder / "raw") if raw else None
    return Config(command=["x"], output=str(folder / "t"), raw=kept, force=force)


def test_a_capture_of_a_further_process_that_is_there_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "raw.2").write_text("somebody's")
    with pytest.raises(OutputError, match=r"raw\.2 exists"):
        Outputs(_config(tmp_path, raw=True))
    assert [path.name for path in tmp_path.iterdir()] == ["raw.2"]


def test_what_a_recording_that_was_cut_off_has_left_is_not_taken_for_ours(tmp_path: Path) -> None:
    for name in ("t.capture", "t.capture.2", "t.capture.3", "t.capture.old"):
        (tmp_path / name).write_text("an earlier one's")
    with pytest.raises(OutputError, match="cut off"):
        Outputs(_config(tmp_path))
    outputs = Outputs(_config(tmp_path, force=True))
    outputs.capture()
    outputs.close()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"t.capture", "t.capture.old"}


def test_a_name_that_is_too_long_is_said_to_be(tmp_path: Path) -> None:
    outputs = Outputs(Config(command=["x"], output=str(tmp_path / ("n" * 247))))
    outputs.capture()
    with pytest.raises(OutputError, match="File name too long"):
        outputs.capture()
    outputs.close()
