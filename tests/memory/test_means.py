"""What `profinfer doctor` says of faults and file reads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from profinfer.kernel import features
from tests.commands.command import REPO, profinfer
from tests.conftest import require

EVENT = "filemap/mm_filemap_add_to_page_cache"
ASK = """if True:
    from profinfer.recording.abilities import Abilities
    from profinfer.recording.recorder import Server
    with Server() as server:
        print(Abilities(lambda: server).memory())
"""


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root, which a recording needs", os.geteuid() == 0)


def asked(*wrapper: str) -> list[str]:
    """What is said when a command of these words runs who asks."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", ASK],
        cwd=REPO, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def asked_where(mount: str, *paths: object) -> list[str]:
    """The same, where these things are mounted for it alone."""
    return asked("unshare", "--mount", "sh", "-ec", f'{mount}; shift {len(paths)}; exec "$@"',
                 "sh", *map(str, paths))  # fmt: skip


def test_doctor_names_the_events(tmp_path: Path) -> None:
    ran = profinfer("doctor", cwd=tmp_path)
    [said] = re.findall(r"^ok +memory +(.*\n(?: {21}.*\n)*)", ran.out, re.MULTILINE)
    assert "software events page-faults-min and page-faults-maj" in said
    assert "tracepoint filemap/mm_filemap_add_to_page_cache" in said


def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path) -> None:
    folder = features.tracefs() / "events/filemap"
    faults, reads, hint = asked_where('mount --bind "$1" "$2"', tmp_path, folder)
    assert faults.startswith("page faults by the software events")
    assert reads == (
        f"file reads cannot be recorded (--block-io): this kernel has no tracepoint {EVENT}"
    )
    assert hint.startswith("hint: ")


def test_what_is_not_allowed_is_named_with_the_remedy() -> None:
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    require("a kernel that lets root alone count faults", paranoid > 0, hardware=True)
    faults, root, reads, also = asked("setpriv", "--bounding-set=-all", "--inh-caps=-all",
                                      "--reuid=65534", "--clear-groups")  # fmt: skip
    assert faults.startswith(
        "page faults cannot be recorded (--faults): not allowed to attach page-faults-min: missing"
        " CAP_SYS_ADMIN"
    )
    assert reads.startswith("file reads cannot be recorded (--block-io): not allowed to read /sys")
    assert "root" in root
    assert "root" in also


def test_a_kernel_that_does_not_tell_sizes_is_named(tmp_path: Path) -> None:
    """As older ones do not."""
    format_file = features.tracefs() / "events" / EVENT / "format"
    lines = [line for line in format_file.read_text().splitlines() if " order;" not in line]
    (tmp_path / "format").write_text("\n".join(lines))
    said = asked_where('mount --bind "$1" "$2"', tmp_path / "format", format_file)
    assert "only the first page is counted" in said[-1]
    assert len(said) == 3
