"""Files that are whole, cut, damaged, or no traces at all."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from profinfer.errors import TraceError
from profinfer.trace_processor import is_cut, open_trace
from profinfer.trace_processor.trace_file import not_a_trace, packet_bounds
from tests.trace_processor.conftest import SLICES, small_trace

COUNT = "SELECT COUNT(*) FROM slice"


@pytest.mark.parametrize("missing", [0, 1, 2, 9])
def test_a_truncated_trace_opens_and_is_known(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "cut.pftrace"
    data = small_trace()
    path.write_bytes(data[: len(data) - missing])
    assert is_cut(path) == (missing > 0)
    with open_trace(path) as session:
        assert session.query(COUNT).rows() == [(SLICES,)]


def test_every_length_of_a_trace() -> None:
    data = small_trace()
    ends = {0}
    while max(ends) < len(data):
        ends.add(max(ends) + 2 + data[max(ends) + 1])
    for size in range(len(data) + 1):
        assert _whole(data[:size]) == (max(end for end in ends if end <= size), True)


def test_lengths_of_several_bytes() -> None:
    packet = b"\x0a\xac\x02" + bytes(300)
    padded = b"\x0a\x81\x80\x80\x00" + b"\x00"  # the encoders pad lengths to a fixed width
    assert _whole(packet + padded) == (len(packet) + len(padded), True)
    assert _whole(packet[:2]) == (0, True)
    assert _whole(packet + packet[:-1]) == (len(packet), True)
    assert _whole(packet + b"\x0a" + b"\xff" * 11) == (len(packet), False)
    assert _whole(packet + b"\x0b") == (len(packet), False)


def _whole(data: bytes) -> tuple[int, bool]:
    """How many bytes are whole packets, and whether what follows may become one."""
    bounds, is_sound = packet_bounds(data)
    assert bounds[3::3] == bounds[2:-1:3]
    return (bounds[-1] if bounds else 0), is_sound


def test_a_tail_that_is_no_packet_counts_as_cut(trace: Path) -> None:
    with trace.open("ab") as file:
        file.write(bytes(40))
    assert is_cut(trace)


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "trace.gz"
    packed = gzip.compress(small_trace(), mtime=0)
    path.write_bytes(packed)
    assert not is_cut(path)
    with open_trace(path) as session:
        assert session.query(COUNT).rows() == [(SLICES,)]
    path.write_bytes(packed[:-9])
    assert is_cut(path)
    with pytest.raises(TraceError, match="damaged") as error:
        open_trace(path)
    assert "gzip -dc" in error.value.hint
    path.write_bytes(packed[:-6] + bytes(6))
    with pytest.raises(TraceError, match="damaged"):
        is_cut(path)


@pytest.mark.parametrize(
    "content",
    [
        b"hello world\n" * 50,
        b"\nhello world\n" * 50,
        b"\x7fELF" + bytes(100),
        b"SQLite format 3\0" + bytes(100),
        b"{}",
        bytes(500),
    ],
)
def test_junk(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(content)
    with pytest.raises(TraceError, match="is not a Perfetto trace"):
        open_trace(path)


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (b"ProfInferRaw\0\0\0\x05" + bytes(100), "raw capture", "profinfer convert {path}"),
        (b"{}", "JSON", "no clocks"),
        (b"GGUF" + bytes(100), "a model", "record"),
        (b"\x7fELF" + bytes(100), "program or library", "doctor"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "Zstandard", "zstd -d {path}"),
        (b"\x17\x08\x44tracing6\0", "trace-cmd", "--system"),
        (b"# tracer: nop\n#\n", "ftrace", "--system"),
        (b" python  3976 39876.688709:     250000 cpu-clock:  7f54 f+0x1 (/x)\n", "perf script",
         "perf.data itself"),
        (b"swapper     0 [001] 39876.688709: sched:sched_switch: a\n", "perf script", "zip"),
        (b"PERFILE2" + bytes(100), "perf's data", "-k CLOCK_BOOTTIME"),
        (b"PK\x03\x04" + bytes(100), "ZIP", "unpack it"),
        (bytes(257) + b"ustar" + bytes(300), "TAR", "unpack it"),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_named(tmp_path: Path, content: bytes, what: str, remedy: str) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    error = not_a_trace(path)
    assert f"{path} is not a Perfetto trace but " in error.message
    assert what in error.message
    assert remedy.format(path=path) in error.hint


def test_what_cannot_be_held_is_refused_at_once(trace: Path) -> None:
    """Loading it would take two minutes."""
    os.truncate(trace, 1_200_000_000)
    begin = time.monotonic()
    with pytest.raises(TraceError, match="1,200 MB: the embedded") as error:
        open_trace(trace, trace_processor="wasm")
    assert time.monotonic() - begin < 1
    assert "--duration" in error.value.hint
    assert "PROFINFER_TRACE_PROCESSOR" in error.value.hint


def test_damage_in_the_middle(trace: Path) -> None:
    data = small_trace()
    trace.write_bytes(data + b"\xff\xff\xff\xff" + data)
    assert is_cut(trace)
    with pytest.raises(TraceError, match="is damaged"):
        open_trace(trace)


def test_what_is_no_file_to_read(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    cases = {empty: "is empty", fifo: "not a regular file", tmp_path: "is a directory",
             tmp_path / "absent": "No such file"}  # fmt: skip
    for path, message in cases.items():
        with pytest.raises(TraceError, match=message):
            open_trace(path)
    with pytest.raises(TraceError, match="No such file"):
        is_cut(tmp_path / "absent")


def test_a_json_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"traceEvents": [{"ph": "X", "name": "a", "ts": 1, "dur": 2, "pid": 1}]}')
    assert not is_cut(path)
    with open_trace(path) as session:
        assert session.query(COUNT).rows() == [(1,)]


def test_import_errors(trace: Path) -> None:
    stray = Trace()
    packet = stray.packet.add(trusted_packet_sequence_id=1)
    packet.timestamp = 5000
    packet.timestamp_clock_id = 64  # a clock that no snapshot relates to another
    packet.track_event.type = TrackEvent.TYPE_INSTANT
    with trace.open("ab") as file:
        file.write(stray.SerializeToString())
    with open_trace(trace) as session:
        assert session.import_errors() == [("clock_sync_failure", 1)]
