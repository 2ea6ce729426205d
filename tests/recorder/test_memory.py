"""Faults, file reads, mappings and models, as the recorder in C records them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from profinfer.converting.models import describe_model
from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD, Kind
from tests.conftest import require
from tests.recorder.recording import TIMEOUT, attached, convert, frame_json

MEMORY = ("--faults", "--block-io", "--poll", 0.05)
MAPPING = Path(__file__).with_name("mapping.py")
PAGE = os.sysconf("SC_PAGESIZE")


class Mapper:
    """tests/recorder/mapping.py, running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.hear()

    def hear(self) -> None:
        """Waits until it has done what it was told."""
        assert self._process.stdout
        assert self._process.stdout.readline()

    def tell(self, *words: object) -> None:
        """Tells it to do something, and waits."""
        assert self._process.stdin
        print(*words, file=self._process.stdin, flush=True)
        self.hear()


@contextmanager
def mapper(built: Path, *files: Path, wrapper: tuple[str, ...] = ()) -> Iterator[Mapper]:
    words = [*wrapper, sys.executable, str(MAPPING), str(built / "libknown.so"), *map(str, files)]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=built
    )
    try:
        yield Mapper(process)
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A GGUF file of some size, which is not in memory."""
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_token_list([f"word {i}" for i in range(50_000)])
    writer.add_tensor("blk.3.ffn_down.weight", np.ones((256, 2048), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    drop(path)
    return path


def wait_for(holds: Callable[[], bool]) -> None:
    """It must hold soon."""
    end = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def drop(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def looks(capture: Path) -> dict[str, list[dict[str, Any]]]:
    """What was new and what was gone, of all looks."""
    found: dict[str, list[dict[str, Any]]] = {"new": [], "gone": []}
    for frame in read_capture(capture):
        if frame.kind == FrameKind.MAPPINGS:
            for key, items in frame.json().items():
                found[key] += items
    return found


def models(capture: Path) -> list[dict[str, Any]]:
    return [describe_model(f.data) for f in read_capture(capture) if f.kind == FrameKind.MODEL]


def test_a_model_that_is_mapped_meanwhile_is_recorded(
    recorder: Path, plan: Path, built: Path, model: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "a.raw"
    with (
        mapper(built) as target,
        attached(recorder, plan, target.pid, capture, *MEMORY) as recording,
    ):
        target.tell("map", model)
        wait_for(lambda: model.stat().st_ino in [m["inode"] for m in looks(capture)["new"]])
        target.tell("unmap", model)
        wait_for(lambda: bool(looks(capture)["gone"]))
        recording.process.terminate()
        recording.finish()
        assert recording.code == 0, recording.said
    status = model.stat()
    seen = looks(capture)
    [mine] = [mapping for mapping in seen["new"] if mapping["inode"] == status.st_ino]
    device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
    assert (mine["path"], mine["device"], mine["offset"]) == (str(model), device, 0)
    assert mine["end"] - mine["start"] == -(-status.st_size // PAGE) * PAGE
    assert mine["start"] in [gone["start"] for gone in seen["gone"]]
    [found] = models(capture)
    check_model(found, model)
    faults, reads = records(capture)
    assert set(faults["b"].tolist()) <= {0, 1}
    assert len(faults) > 0
    keys = (reads["b"] & ((1 << 58) - 1)).astype(np.int64)
    pages = PAGE << (reads["b"] >> 58).astype(np.int64)[keys == status.st_ino]
    assert pages.sum() >= status.st_size
    end = frame_json(capture, FrameKind.END)
    kernel = end["memory"]["kernel"]
    assert kernel["minor"] + kernel["major"] == len(faults)
    assert kernel["read_bytes"] >= status.st_size
    assert [program["event"] for program in end["event_programs"]][-3:] == [
        "page-faults-min", "page-faults-maj", "mm_filemap_add_to_page_cache",
    ]  # fmt: skip
    convert(capture)


def records(capture: Path) -> tuple[Any, Any]:
    """Faults, and file reads."""
    all_of_them = np.concatenate(
        [
            np.frombuffer(f.data, RECORD)
            for f in read_capture(capture)
            if f.kind == FrameKind.RECORDS
        ]
    )
    kinds = all_of_them["kind"]
    return all_of_them[kinds == Kind.FAULT], all_of_them[kinds == Kind.FILE_READ]


def check_model(found: dict[str, Any], model: Path) -> None:
    reader = gguf.GGUFReader(model)
    assert (found["error"], found["path"], found["overlaid"]) == (None, str(model), False)
    assert [(t["name"], t["offset"], t["bytes"]) for t in found["tensors"]] == [
        (t.name, t.data_offset, t.n_bytes) for t in reader.tensors
    ]


def test_of_a_mapped_model_the_header_is_in_the_capture(
    recorder: Path, plan: Path, built: Path, model: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "a.raw"
    with (
        mapper(built, model) as target,
        attached(recorder, plan, target.pid, capture, *MEMORY) as recording,
    ):
        model.unlink()  # it is held open
        recording.process.terminate()
        recording.finish()
        assert recording.code == 0, recording.said
    [found] = models(capture)
    [frame] = [f.data for f in read_capture(capture) if f.kind == FrameKind.MODEL]
    assert (found["error"], found["path"]) == (None, str(model))
    assert [t["name"] for t in found["tensors"]] == ["blk.3.ffn_down.weight"]
    assert len(frame) < found["tensors"][0]["offset"] + 300


def test_a_model_is_evicted_before_it_is_recorded(
    recorder: Path, plan: Path, built: Path, model: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "a.raw"
    with (
        mapper(built, model) as target,
        attached(recorder, plan, target.pid, capture, *MEMORY, "--evict") as recording,
    ):
        recording.process.terminate()
        recording.finish()
    assert frame_json(capture, FrameKind.START)["evicted"] == [
        {"path": str(model), "bytes": model.stat().st_size, "left": 0}
    ]


def test_a_model_that_a_command_names_is_evicted(
    recorder: Path, plan: Path, built: Path, model: Path, tmp_path: Path
) -> None:
    with model.open("rb") as file:
        assert file.read()  # now it is in memory
    capture = tmp_path / "a.raw"
    done = subprocess.run(
        [*map(str, (recorder, "--plan", plan, "-o", capture, "--evict", "--")),
         sys.executable, MAPPING, built / "libknown.so", model.name],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=tmp_path,
        timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert frame_json(capture, FrameKind.START)["evicted"] == [
        {"path": model.name, "bytes": model.stat().st_size, "left": 0}
    ]


def test_nothing_to_evict_is_said(recorder: Path, plan: Path, built: Path, tmp_path: Path) -> None:
    with mapper(built) as target:
        done = subprocess.run(
            [recorder, "--plan", plan, "-o", tmp_path / "a.raw", "--evict", "--pid",
             str(target.pid)],
            capture_output=True, text=True, check=False, timeout=TIMEOUT,
        )  # fmt: skip
    assert done.returncode == 5
    assert "no GGUF file mapped and its command line names no GGUF file" in done.stderr
    assert not (tmp_path / "a.raw").exists()


def test_very_many_mappings_take_little_memory(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    count = 50_000
    capture, file = tmp_path / "a.raw", tmp_path / "file"
    file.write_bytes(bytes(3 * PAGE))
    with mapper(built) as target:
        target.tell("often", file, count)
        with attached(recorder, plan, target.pid, capture, *MEMORY) as recording:
            status = Path(f"/proc/{recording.process.pid}/status").read_text()
            recording.process.terminate()
            recording.finish()
    [peak] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    assert peak <= 8 << 10
    assert sum(mapping["path"] == str(file) for mapping in looks(capture)["new"]) == count


OVERLAY = """
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1/low,upperdir=$1/up,workdir=$1/work" "$1/all" || exit 3
shift
exec "$@"
"""


def test_a_model_on_an_overlay_is_known(
    recorder: Path, plan: Path, built: Path, model: Path, tmp_path: Path
) -> None:
    for name in ("low", "up", "work", "all"):
        (tmp_path / name).mkdir()
    for name in ("low", "up"):
        (tmp_path / name / f"{name}.gguf").write_bytes(model.read_bytes())
    wrapper = ("unshare", "--mount", "sh", "-c", OVERLAY, "sh", str(tmp_path))
    tried = subprocess.run([*wrapper, "true"], check=False, timeout=TIMEOUT)
    require("overlay file systems", tried.returncode != 3, hardware=True)
    capture = tmp_path / "a.raw"
    files = [tmp_path / "low/low.gguf", tmp_path / "all/low.gguf", tmp_path / "all/up.gguf"]
    with (
        mapper(built, *files, wrapper=wrapper) as target,
        attached(recorder, plan, target.pid, capture, *MEMORY) as recording,
    ):
        recording.process.terminate()
        recording.finish()
    overlaid = {found["path"]: found["overlaid"] for found in models(capture)}
    assert overlaid == {str(path): path.parent.name == "all" for path in files}
