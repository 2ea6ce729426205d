"""What `profinfer doctor` says of faults and file reads."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from profinfer import kernel, memory_probes
from profinfer.memory_probes import describe_means
from tests.cli.command import profinfer
from tests.conftest import require


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root, which a recording needs", os.geteuid() == 0)


def test_doctor_names_the_events(tmp_path: Path) -> None:
    ran = profinfer("doctor", cwd=tmp_path)
    [said] = re.findall(r"^ok +memory +(.*\n(?: {21}.*\n)*)", ran.out, re.MULTILINE)
    assert "software events page-faults-min and page-faults-maj" in said
    assert "tracepoint filemap/mm_filemap_add_to_page_cache" in said


def test_what_is_missing_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_probes, "_READ_EVENT", "filemap/no_such_event")
    monkeypatch.setattr(memory_probes, "_EVENTS", {"on_minor_fault": 5, "on_major_fault": 4711})
    faults, reads, hint = describe_means().splitlines()
    assert faults.startswith(
        "page faults cannot be recorded (--faults): cannot attach page-faults-"
    )
    assert reads == (
        "file reads cannot be recorded (--block-io): "
        "this kernel has no tracepoint filemap/no_such_event"
    )
    assert hint.startswith("hint: ")


def test_a_kernel_that_does_not_tell_sizes_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As older ones do not."""
    event = "filemap/mm_filemap_add_to_page_cache"
    text = (kernel.tracefs() / "events" / event / "format").read_text()
    (tmp_path / "events" / event).mkdir(parents=True)
    lines = [line for line in text.splitlines() if " order;" not in line]
    (tmp_path / "events" / event / "format").write_text("\n".join(lines))
    monkeypatch.setattr(kernel, "tracefs", lambda: tmp_path)
    assert "only the first page is counted" in describe_means()
