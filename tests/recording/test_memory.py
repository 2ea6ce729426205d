"""Page faults and file reads, against what the kernel counts of each thread and process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.recording.helpers import TIMEOUT, ending, number, record, rows
from tests.support import ENGINE_ONLY

FAULTER = Path(__file__).with_name("faulter.py")
TENSOR_BYTES = 6 << 20
PREPARE = "INCLUDE PERFETTO MODULE profinfer.memory.paging"


def write_model(path: Path) -> None:
    """One tensor of experts, one without; written through to the disk."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_expert_count(8)
    rng = np.random.default_rng(1)
    rest = TENSOR_BYTES // 4
    writer.add_tensor("blk.2.ffn_up_exps.weight", rng.random((8, 64, rest // 512), np.float32))
    writer.add_tensor("output.weight", rng.random((64, rest // 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with path.open("rb") as file:
        os.fsync(file.fileno())


@dataclass
class Run:
    trace: Path
    truth: dict[str, Any]
    said: str


def run(built: Path, folder: Path, *options: object) -> Run:
    """A recording of the faulter."""
    model, trace = folder / "model.gguf", folder / "t.pftrace"
    write_model(model)
    target = subprocess.Popen(
        [sys.executable, str(FAULTER), str(built / "libknown.so"), str(model)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert target.stdin
    assert target.stdout
    try:
        assert target.stdout.readline() == "ready\n"
        recorder = subprocess.Popen(
            [sys.executable, "-m", "profinfer", "record", "--pid", str(target.pid),
             "-o", str(trace), "--level", "token", *ENGINE_ONLY, "--faults", *map(str, options)],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert recorder.stderr
        try:
            first = recorder.stderr.readline()
            assert first.startswith("recording "), first + recorder.stderr.read()
            target.stdin.write("\n")
            target.stdin.flush()
            truth = json.loads(target.stdout.readline())
            said = recorder.communicate(timeout=TIMEOUT)[1]
            assert recorder.returncode == 0, said
        finally:
            recorder.kill()
            recorder.wait()
    finally:
        target.kill()
        target.communicate()
    return Run(trace, truth, said)


def counted(trace: Path, thread: dict[str, Any]) -> dict[str, int]:
    """Faults of a thread in its time, by kind."""
    [_, found] = rows(
        trace, PREPARE,
        "SELECT f.kind, tid, f.ts FROM profinfer_fault AS f JOIN thread USING (utid)",
    )  # fmt: skip
    kinds = [
        str(kind)
        for kind, tid, ts in found
        if tid == thread["tid"] and thread["begin"] <= number(ts) <= thread["end"]
    ]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


@pytest.mark.parametrize(
    "options",
    [(), ("--transport", "perf"), ("--loader", "bcc"), ("--loader", "bcc", "--transport", "perf")],
    ids=" ".join,
)
def test_every_fault_of_every_thread_is_there_once(
    built: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    found = run(built, tmp_path, *options)
    for thread in found.truth["threads"]:
        truth = {kind: thread[kind] for kind in ("minor", "major") if thread[kind]}
        assert counted(found.trace, thread) == truth, thread["name"]
    [_, by_kind] = rows(
        found.trace, PREPARE,
        "SELECT kind, count(), profinfer_kernel_count(upid, kind) FROM profinfer_fault"
        " GROUP BY kind",
    )  # fmt: skip
    assert [kind for kind, _, _ in by_kind] == ["major", "minor"]
    assert all(recorded == kernel for _, recorded, kernel in by_kind)
    by_name = {thread["name"]: thread for thread in found.truth["threads"]}
    assert by_name["file"]["major"] >= len(found.truth["pages"])
    assert by_name["fresh"]["minor"] >= 1500


def test_faults_and_reads_lie_where_the_file_was_touched(built: Path, tmp_path: Path) -> None:
    found = run(built, tmp_path, "--block-io")
    _, faults, reads, tensors, losses = rows(
        found.trace, PREPARE,
        "SELECT f.offset FROM profinfer_fault AS f JOIN profinfer_model USING (file)"
        " WHERE kind = 'major' ORDER BY 1",
        "SELECT r.offset, r.bytes FROM profinfer_file_read AS r JOIN profinfer_model USING (file)"
        " ORDER BY 1",
        "SELECT t.name, f.expert, count() FROM profinfer_fault AS f JOIN profinfer_model_tensor"
        " AS t USING (model_tensor_id) GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT * FROM profinfer_loss",
    )  # fmt: skip
    touched = [4096 * page for page in found.truth["pages"]]
    assert [offset for (offset,) in faults] == touched
    assert losses == []
    # What was read contains what was touched; together it is what the kernel counts.
    spans = [(number(offset), number(size)) for offset, size in reads]
    assert all(any(o <= t < o + s for o, s in spans) for t in touched)
    assert sum(size for _, size in spans) == found.truth["read_bytes"]
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    expected: dict[tuple[str, int | None], int] = {}
    for tensor in reader.tensors:
        for offset in touched:
            at = offset - int(tensor.data_offset)
            if 0 <= at < tensor.n_bytes:
                expert = at * 8 // int(tensor.n_bytes) if "exps" in tensor.name else None
                key = (tensor.name, expert)
                expected[key] = expected.get(key, 0) + 1
    assert {(str(n), e): number(c) for n, e, c in tensors} == expected
    assert len(expected) == 9


def test_what_did_not_fit_is_counted(built: Path, tmp_path: Path) -> None:
    found = run(built, tmp_path, "--ring-size", "4K", "--poll", "0.3")
    _, recorded, [(lost,)], complete, [(kernel,)] = rows(
        found.trace, PREPARE,
        "SELECT count() FROM profinfer_fault",
        "SELECT sum(lost) FROM profinfer_loss WHERE kind = 'fault'",
        "SELECT DISTINCT kind FROM profinfer_loss",
        "SELECT profinfer_kernel_count(upid, 'minor') + profinfer_kernel_count(upid, 'major')"
        " FROM (SELECT DISTINCT upid FROM profinfer_fault)",
    )  # fmt: skip
    assert number(lost) > 500
    assert complete == [("fault",)]
    assert number(recorded[0][0]) + number(lost) == kernel


def test_what_is_not_asked_for_is_not_there(built: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    record(trace, ["--level", "token"], [built / "known", "--threads", 2])
    [found] = rows(
        trace,
        "SELECT DISTINCT category FROM slice WHERE category GLOB 'fault*'"
        " OR category GLOB 'file*' OR category GLOB 'memory*'",
    )
    assert found == []
    assert "memory" not in ending(trace)
