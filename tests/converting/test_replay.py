"""A real recording, replayed whole, cut, lossy and damaged."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from profinfer.__main__ import main
from profinfer.errors import TraceError
from profinfer.records.capture import FORMAT, MAGIC, FrameKind, read_capture
from profinfer.records.dtypes import RUNS, TOKENS_RECORD, Kind
from profinfer.trace_processor import Session, open_trace
from tests.captures import convert, write_capture
from tests.converting.recordings import DATA, boundaries, counts, frames, lossy, raw, summary

WHOLE = raw()
EDGES = boundaries(WHOLE)


def warnings(session: Session) -> list[str]:
    found = session.query(
        "INCLUDE PERFETTO MODULE profinfer.recording.warnings; "
        "SELECT message FROM profinfer_recording_warning"
    )
    return [str(message) for (message,) in found]


def run_convert(capture: Path, trace: Path) -> int:
    return main(["convert", str(capture), str(trace)])


def test_says_what_was_recorded(tmp_path: Path) -> None:
    expected = json.loads((DATA / "known.json").read_text())
    assert summary(convert(frames(tmp_path), tmp_path / "known.pftrace")) == expected


def test_agrees_with_what_the_engine_counted(tmp_path: Path) -> None:
    truth: dict[str, Any] = json.loads((DATA / "truth.json").read_text())
    calls = truth["calls"]
    trace = convert(frames(tmp_path), tmp_path / "known.pftrace")
    with open_trace(trace, trace_processor="wasm") as session:
        slices = counts(session, "SELECT category, count() FROM slice GROUP BY 1")
        backends = counts(session, "SELECT backend, count() FROM profinfer_graph GROUP BY 1")
        graphs = session.query("SELECT ts, dur FROM profinfer_graph ORDER BY graph_id").rows()
    operators = ("ggml_cpu_extra_compute_forward", "ggml_compute_forward_rms_norm_mul_fused")
    assert slices["operator"] == sum(calls[name] for name in operators)
    assert slices["barrier"] == truth["barrier_outside"]
    assert slices["barrier.inside"] == truth["barrier_inside"]
    assert slices["ubatch"] == sum(truth["ubatches"].values())
    assert sorted(backends.values()) == [calls["ggml_graph_compute"]] * 2
    for (ts, dur), (*_, begin, end) in zip(graphs, truth["graphs"], strict=True):
        # The engine looks at the clock around the function that is probed.
        assert isinstance(ts, int)
        assert isinstance(dur, int)
        assert begin <= ts < begin + 1_000_000
        assert end - 1_000_000 < ts + dur <= end


def test_is_the_same_twice(tmp_path: Path) -> None:
    first = convert(frames(tmp_path), tmp_path / "1.pftrace").read_bytes()
    assert convert(frames(tmp_path), tmp_path / "2.pftrace").read_bytes() == first


def test_convert_reads_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture, trace = tmp_path / "known.raw", tmp_path / "known.pftrace"
    capture.write_bytes(WHOLE)
    assert run_convert(capture, trace) == 0
    assert capsys.readouterr().err == ""
    assert trace.read_bytes() == convert(frames(tmp_path), tmp_path / "2.pftrace").read_bytes()


# ---- Cut

_END = len(EDGES) - 2
"""The END frame's place."""


@pytest.mark.parametrize(
    ("end", "whole"),
    [
        pytest.param(EDGES[5], 5, id="between two frames"),
        pytest.param(EDGES[5] + 1, 5, id="after the first byte of a header"),
        pytest.param(EDGES[5] + 23, 5, id="before the last byte of a header"),
        pytest.param(EDGES[5] + 24, 5, id="after a header"),
        pytest.param(EDGES[9] + 1000, 9, id="in the middle of records"),
        pytest.param(EDGES[_END], _END, id="before the end frame"),
        pytest.param(len(WHOLE) - 1, _END, id="before the last byte"),
    ],
)
def test_a_cut_capture_is_converted_up_to_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: int, whole: int
) -> None:
    capture, trace = tmp_path / "cut.raw", tmp_path / "cut.pftrace"
    capture.write_bytes(WHOLE[:end])
    assert run_convert(capture, trace) == 0
    error = capsys.readouterr().err
    assert f"warning: {capture} is truncated" in error
    assert (
        trace.read_bytes()
        == convert(frames(tmp_path)[:whole], tmp_path / "part.pftrace").read_bytes()
    )
    with open_trace(trace, trace_processor="wasm") as session:
        assert session.import_errors() == []
        assert warnings(session) == ["this trace is truncated: the end of the recording is missing"]


def test_a_longer_part_says_more(tmp_path: Path) -> None:
    whole = frames(tmp_path)
    seen = []
    for end in range(4, len(whole) + 1, 4):
        trace = convert(whole[:end], tmp_path / "part.pftrace")
        with open_trace(trace, trace_processor="wasm") as session:
            found = counts(session, "SELECT category, count() FROM slice GROUP BY 1")
            seen.append(found.get("operator", 0))
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]


@pytest.mark.parametrize("length", [16, 17, 40, EDGES[1] - 1])
def test_without_a_whole_frame_there_is_nothing_to_convert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], length: int
) -> None:
    capture, trace = tmp_path / "cut.raw", tmp_path / "cut.pftrace"
    capture.write_bytes(WHOLE[:length])
    assert run_convert(capture, trace) == TraceError.exit_code
    assert "holds no whole frame" in capsys.readouterr().err
    assert not trace.exists()


# ---- Lossy


def test_a_lossy_recording_says_so(tmp_path: Path) -> None:
    whole = frames(tmp_path)
    rest, lost = lossy(whole, slice(40, 80), (Kind.OPERATOR, Kind.BARRIER, Kind.FUSED))
    assert lost > 20
    trace = convert(rest, tmp_path / "lossy.pftrace")
    with open_trace(trace, trace_processor="wasm") as session:
        [warning] = warnings(session)
        assert warning.startswith(f"{lost} records were lost")
        sums = counts(session, "SELECT kind, sum(lost) FROM profinfer_loss GROUP BY 1")
        assert sum(sums.values()) == lost
        assert set(sums) <= {"operator", "barrier", "fused"}
        shown = counts(session, "SELECT category, count() FROM slice GROUP BY 1")
        assert shown["operator.incomplete"] > 0
        graphs = counts(session, "SELECT complete, count() FROM profinfer_graph GROUP BY 1")
        assert graphs["0"] >= 1
        assert graphs["1"] >= 1
    complete = _complete_operators(convert(whole, tmp_path / "whole.pftrace"))
    assert _complete_operators(trace) < complete


def _complete_operators(trace: Path) -> set[tuple[object, ...]]:
    with open_trace(trace, trace_processor="wasm") as session:
        found = session.query(
            "INCLUDE PERFETTO MODULE profinfer.operators.runs; SELECT ts, dur, tid, s.name "
            "FROM profinfer_operator_slice s JOIN thread USING (utid) WHERE complete"
        )
        return set(found)


# ---- Damaged

EXAMPLES = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@contextlib.contextmanager
def at_most_a_gib() -> Iterator[None]:
    """Of memory, besides what this process has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def try_to_convert(data: bytes) -> float:
    """Converts, or says by TraceError why not; how long that took in seconds.

    What has been written by then is a trace all the same. More than a GiB of memory is an error.
    """
    with tempfile.TemporaryDirectory() as name:
        capture = Path(name) / "bad.raw"
        capture.write_bytes(data)
        began = time.monotonic()
        with at_most_a_gib(), contextlib.suppress(TraceError):
            convert(read_capture(capture), Path(name) / "bad.pftrace")
        took = time.monotonic() - began
        if (Path(name) / "bad.pftrace").exists():
            pb.Trace().ParseFromString((Path(name) / "bad.pftrace").read_bytes())
        return took


@EXAMPLES
@given(
    st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=20
    )
)
def test_changed_bytes_are_no_surprise(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    assert try_to_convert(bytes(data)) < 10


@EXAMPLES
@given(st.data())
def test_changed_records_are_no_surprise(data: st.DataObject) -> None:
    """Where it counts: fields of records, and what stands in headers of frames."""
    damaged = bytearray(WHOLE)
    extreme = st.sampled_from((0, 1, 0x7F, 0x80, 0xFF, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        frame = data.draw(st.integers(0, len(EDGES) - 2))
        inside = data.draw(st.integers(0, (EDGES[frame + 1] - EDGES[frame]) // 8 - 1))
        at = EDGES[frame] + 8 * inside
        damaged[at : at + 8] = data.draw(extreme).to_bytes(8, "little")
    assert try_to_convert(bytes(damaged)) < 10


@pytest.mark.parametrize("tokens", [0x7FFFFFFF, 0xFFFFFFFF])
def test_a_step_of_billions_of_tokens_is_no_surprise(tokens: int) -> None:
    damaged = bytearray(WHOLE)
    changed = 0
    for begin, end in itertools.pairwise(EDGES):
        for at in range(begin + 24, end - TOKENS_RECORD.itemsize + 1, 8):
            record = np.frombuffer(damaged, TOKENS_RECORD, 1, at)[0]
            if record["header"]["kind"] == Kind.TOKENS and 0 < record["runs"] <= RUNS:
                run = record["run"][changed % int(record["runs"])]
                run["tokens"] = run["outputs"] = tokens
                changed += 1
    assert changed > 5
    assert try_to_convert(bytes(damaged)) < 10


@EXAMPLES
@given(
    kind=st.sampled_from(FrameKind),
    body=st.one_of(
        st.binary(max_size=400),
        st.sampled_from(
            [b"[]", b"{}", b"null", b"7", b'"x"', b"[" * 100_000, b'{"a":' * 50_000,
             b'{"x": "\\ud800"}', b'{"-1": "x"}', b'{"99999999999": "x"}', b'{"1": 7}',
             b'{"a": 1e999, "b": NaN}', b'{"a": ' + b"9" * 400 + b"}", b'{"1": "\\ud800"}'],
        ),
    ),
    place=st.integers(0, len(EDGES) - 2),
)  # fmt: skip
@example(kind=FrameKind.END, body=b'{"a": "\\ud800"}', place=3)
@example(kind=FrameKind.START, body=b"{}", place=0)
def test_other_frames_are_no_surprise(kind: FrameKind, body: bytes, place: int) -> None:
    head = kind.to_bytes(4, "little") + bytes(4) + WHOLE[24:32] + len(body).to_bytes(8, "little")
    at = EDGES[place]
    assert try_to_convert(WHOLE[:at] + head + body + WHOLE[at:]) < 10


@EXAMPLES
@given(st.permutations(range(len(EDGES) - 1)))
def test_frames_in_another_order_are_no_surprise(order: list[int]) -> None:
    parts = [WHOLE[EDGES[i] : EDGES[i + 1]] for i in order]
    assert try_to_convert(MAGIC + b"".join(parts)) < 10


_MEASURE = """
import resource, sys
from pathlib import Path
from profinfer.records.capture import read_capture
from profinfer.errors import TraceError
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
try:
    for frame in read_capture(Path(sys.argv[1])):
        pass
except TraceError as error:
    print(error.message)
print("read")
"""


@pytest.mark.parametrize("length", [1 << 30, (1 << 30) - 320, 1 << 62, (1 << 64) - 1])
def test_a_frame_that_claims_to_be_huge_takes_no_memory(tmp_path: Path, length: int) -> None:
    assert hasattr(resource, "RLIMIT_AS")
    head = FrameKind.RECORDS.to_bytes(8, "little") + bytes(8) + length.to_bytes(8, "little")
    capture = tmp_path / "huge.raw"
    capture.write_bytes(WHOLE[: EDGES[5]] + head + b"few bytes")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(capture)], capture_output=True, text=True,
        check=False, timeout=30, env={"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.endswith("read\n"), done.stderr


# ---- Foreign


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        MAGIC[:-1],
        b"\x7fELF" + bytes(100),
        b"GGUF" + bytes(100),
        (DATA / "known.raw.gz").read_bytes(),
        (DATA / "known.json").read_bytes(),
    ],
)
def test_another_file_is_no_capture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    capture, trace = tmp_path / "other", tmp_path / "other.pftrace"
    capture.write_bytes(content)
    assert run_convert(capture, trace) == TraceError.exit_code
    assert f"{capture} is not a raw capture" in capsys.readouterr().err
    assert not trace.exists()


@pytest.mark.parametrize("number", [0, FORMAT + 1, 255])
def test_a_capture_of_an_unknown_format_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    capture, trace = tmp_path / "later", tmp_path / "later.pftrace"
    content = gzip.decompress((DATA / "known.raw.gz").read_bytes())
    capture.write_bytes(MAGIC[:-1] + bytes([number]) + content[len(MAGIC) :])
    assert run_convert(capture, trace) == TraceError.exit_code
    assert f"a raw capture of format {number}; this profinfer reads 1 to {FORMAT}" in (
        capsys.readouterr().err
    )
    assert not trace.exists()


def test_a_trace_is_no_capture(tmp_path: Path) -> None:
    trace = convert(frames(tmp_path), tmp_path / "known.pftrace")
    assert run_convert(trace, tmp_path / "again.pftrace") == TraceError.exit_code


def test_what_cannot_be_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        assert run_convert(path, tmp_path / "out.pftrace") == TraceError.exit_code
        assert f"cannot read {path}" in capsys.readouterr().err


def test_a_capture_must_begin_with_its_start(tmp_path: Path) -> None:
    capture = write_capture(frames(tmp_path)[1:], tmp_path / "headless.raw")
    assert run_convert(capture, tmp_path / "out.pftrace") == TraceError.exit_code


def test_does_not_overwrite_a_trace(tmp_path: Path) -> None:
    capture = write_capture(frames(tmp_path), tmp_path / "known2.raw")
    trace = tmp_path / "precious.pftrace"
    trace.write_bytes(b"precious")
    assert run_convert(capture, trace) != 0
    assert trace.read_bytes() == b"precious"
