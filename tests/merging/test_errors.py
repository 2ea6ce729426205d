"""What cannot be merged: a message that names the file, an exit code, and no output."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from profinfer.errors import TraceError
from profinfer.trace_processor import open_trace
from tests.commands.command import fails, profinfer
from tests.merging.inputs import OPERATORS, android, engine, merged, write_engine


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("good") / "good.pftrace", engine())


def _huge(whole: bytes) -> bytes:
    """A packet that says that it is 2 GiB long."""
    return whole + b"\x0a\xff\xff\xff\xff\x07" + bytes(100)


_BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "empty"),
    "text": (lambda _: b"no trace at all, but a letter", "not a"),
    "json": (lambda _: b'{"traceEvents": []}', "JSON"),
    "perf's data": (lambda _: b"PERFILE2" + bytes(100), "but perf's data"),
    "a capture": (lambda _: b"ProfInferRaw" + bytes(100), "but a raw capture"),
    "an archive": (lambda _: b"PK\x03\x04" + bytes(100), "but a ZIP archive"),
    "first packet cut": (lambda whole: whole[:5], "within its first packet"),
    "not gzip after all": (lambda _: b"\x1f\x8b" + bytes(50), "damaged"),
    "gzip with an error": (lambda whole: _flipped(gzip.compress(whole)), "damaged"),
    "packets with an error": (lambda whole: whole + b"\x0a\x04\xff\xff\xff\xff", "damaged"),
    "compressed packets with an error": (
        lambda whole: whole + b"\x0a\x07\x92\x03\x04abcd", "damaged",
    ),
    "zstd": (lambda whole: whole + b"\x0a\x07\xaa\x08\x04abcd", "Zstandard"),
}  # fmt: skip


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(each ^ 0xFF for each in data[middle : middle + 20]) + data[middle:]


@pytest.mark.parametrize("kind", _BAD)
def test_a_bad_input_is_named(tmp_path: Path, good: Path, kind: str) -> None:
    spoil, said = _BAD[kind]
    bad = tmp_path / "bad.pftrace"
    bad.write_bytes(spoil(good.read_bytes()))
    ran = profinfer("merge", good, bad, "-o", "c.pftrace", cwd=tmp_path)
    fails(ran, 8, bad, said)
    assert sorted(os.listdir(tmp_path)) == ["bad.pftrace"]


def test_inputs_that_cannot_be_read(tmp_path: Path, good: Path) -> None:
    for path, said in ((tmp_path / "none", "no such file"), (tmp_path, "directory")):
        ran = profinfer("merge", good, path, "-o", tmp_path / "c.pftrace", cwd=tmp_path)
        fails(ran, 8, path)
        assert said in ran.message.lower()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    fails(profinfer("merge", good, fifo, "-o", "c.pftrace", cwd=tmp_path), 8, fifo)
    assert sorted(os.listdir(tmp_path)) == ["fifo"]


def test_the_same_file_twice_by_any_name(tmp_path: Path, good: Path) -> None:
    (tmp_path / "link").symlink_to(good)
    fails(profinfer("merge", good, "link", "-o", "c.pftrace", cwd=tmp_path), 2, good, "same file")


def test_the_output_is_no_input(tmp_path: Path, good: Path) -> None:
    mine = tmp_path / "mine.pftrace"
    mine.write_bytes(good.read_bytes())
    for more in ((), ("--force",)):
        ran = profinfer("merge", good, mine, "-o", mine, *more, cwd=tmp_path)
        fails(ran, 2, mine, "to be written")
    assert mine.read_bytes() == good.read_bytes()


def test_the_output_is_left_alone_unless_forced(tmp_path: Path, good: Path) -> None:
    other = tmp_path / "a.pftrace"
    other.write_bytes(android().trace())
    there = tmp_path / "c.pftrace"
    there.write_bytes(b"mine")
    fails(profinfer("merge", good, other, "-o", there, cwd=tmp_path), 7, there)
    assert there.read_bytes() == b"mine"
    # An error later on leaves it alone, too.
    (tmp_path / "bad.pftrace").write_bytes(b"no trace")
    fails(profinfer("merge", good, "bad.pftrace", "-o", there, "--force", cwd=tmp_path), 8)
    assert there.read_bytes() == b"mine"
    ran = profinfer("merge", good, other, "-o", there, "--force", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert there.stat().st_size > good.stat().st_size


def test_usage(tmp_path: Path, good: Path) -> None:
    fails(profinfer("merge", good, "-o", "c", cwd=tmp_path), 2, "at least two")
    for offset in ("soon", "nan", "1e30"):
        ran = profinfer("merge", good, good, f"--offset={offset}", "-o", "c", cwd=tmp_path)
        fails(ran, 2, offset)


def test_a_cut_trace_is_merged_as_far_as_it_goes_and_flagged(tmp_path: Path, good: Path) -> None:
    whole = android().trace()
    for name, data in (
        ("cut.pftrace", whole[:-3]),
        ("cut.gz", gzip.compress(whole)[:-12]),
        ("huge.pftrace", _huge(whole)),
        ("more.pftrace", whole + b"junk after the end"),
    ):
        cut = tmp_path / name
        cut.write_bytes(data)
        ran = profinfer("merge", good, cut, "-o", "c.pftrace", "--force", cwd=tmp_path)
        assert ran.code == 0, ran.err
        assert f"warning: {cut} is cut" in ran.err
        with open_trace(tmp_path / "c.pftrace", trace_processor="wasm") as session:
            assert session.import_errors() == []
            [(count,)] = session.query("SELECT count() FROM slice WHERE category = 'operator'")
            assert count == OPERATORS
            [(flagged,)] = session.query(
                "SELECT count() FROM slice WHERE category = 'merge' AND "
                "extract_arg(arg_set_id, 'debug.cut')"
            )
            assert flagged == 1


def test_every_cut_of_a_trace_merges_or_says_why(tmp_path: Path, good: Path) -> None:
    """Whatever is missing at the end, there is no traceback."""
    whole = android().trace()
    cut = tmp_path / "cut.pftrace"
    for size in (*range(0, 400, 7), *range(400, len(whole), len(whole) // 40)):
        cut.write_bytes(whole[:size])
        try:
            report = merged(tmp_path / "c.pftrace", good, cut, same_boot=True)
        except TraceError:
            assert size < 100
        else:
            assert report.warnings or size == 0 or _ends_whole(whole, size)


def _ends_whole(whole: bytes, size: int) -> bool:
    """Whether a packet ends there."""
    at = 0
    for packet in Trace.FromString(whole).packet:
        content = packet.ByteSize()
        at += 1 + len(_varint(content)) + content
        if at == size:
            return True
    return False


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)
