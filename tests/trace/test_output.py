"""The output file: never over something else, and whole packets whatever happens."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from profinfer.errors import OutputError
from profinfer.output import Output
from tests.captures import MAIN, Capture, T, convert
from tests.converting.decode import decode


def test_refuses_a_file_that_exists(tmp_path: Path) -> None:
    path = tmp_path / "out.pftrace"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists") as caught:
        Output(path, force=False)
    assert "--force" in caught.value.hint
    assert path.read_bytes() == b"precious"


def test_force_replaces_the_content(tmp_path: Path) -> None:
    path = tmp_path / "out.pftrace"
    path.write_bytes(b"old and longer")
    output = Output(path, force=True)
    output.append(b"new")
    output.close()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("force", [False, True])
def test_refuses_a_symbolic_link(tmp_path: Path, force: bool) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(OutputError):
        Output(link, force=force)
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("force", [False, True])
def test_refuses_a_dangling_link(tmp_path: Path, force: bool) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(OutputError):
        Output(link, force=force)
    assert not (tmp_path / "nothing").exists()


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        Output(tmp_path, force=True)
    with pytest.raises(OutputError, match="not a regular file"):
        Output(Path("/dev/null"), force=True)
    with pytest.raises(OutputError, match="No such file"):
        Output(tmp_path / "no" / "folder", force=True)


@pytest.mark.timeout(20)
def test_does_not_wait_for_the_reader_of_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    code = (
        "import sys; from pathlib import Path; from profinfer.output import Output\n"
        "from profinfer.errors import OutputError\n"
        "try: Output(Path(sys.argv[1]), force=True)\n"
        "except OutputError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(fifo)], capture_output=True, text=True, check=False,
        timeout=10,
    )  # fmt: skip
    assert done.stdout == "refused\n", done.stderr


_FULL = """
import resource, signal, sys
from pathlib import Path
from profinfer.errors import OutputError
from profinfer.output import Output
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
output = Output(Path(sys.argv[1]), force=False)
output.append(b"a" * 600)
try:
    output.append(b"b" * 600)
except OutputError as error:
    print(error.message, "/", error.hint)
output.append(b"c" * 300)
output.close()
"""


def test_a_full_disk_leaves_what_was_whole(tmp_path: Path) -> None:
    assert hasattr(resource, "RLIMIT_FSIZE")
    assert hasattr(signal, "SIGXFSZ")
    path = tmp_path / "out.pftrace"
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, check=True,
        timeout=30,
    )  # fmt: skip
    assert done.stdout.startswith(f"cannot write {path}: File too large")
    assert "600 bytes" in done.stdout
    assert path.read_bytes() == b"a" * 600 + b"c" * 300


def test_the_file_is_a_trace_after_every_frame(tmp_path: Path) -> None:
    capture = Capture()
    shape = capture.structure(1000, [T("x"), T("a-0", "ADD", ("x",)), T("b-0", "MUL", ("a-0",))])
    capture.ubatch(4000, 30_000, [(0, 0, 1, 1, 1)])
    capture.graph(shape, 5000, 29_000, {MAIN: [("a-0", 6000, 7000), ("b-0", 8000, 9000)]})
    frames = capture.frames(
        [(t, t) for t in range(capture.records[0].ts, capture.end(), 7_000_000)]
    )
    counts = []
    for end in range(2, len(frames) + 1):
        counts.append(len(decode(convert(frames[:end], tmp_path / "out.pftrace")).events))
    assert counts == sorted(counts)
    assert counts[-1] > counts[0] > 0
