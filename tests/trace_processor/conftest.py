"""Small traces, made with Perfetto's own schema, and Trace Processors to read them."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from profinfer.trace_processor import Session, open_trace
from profinfer.trace_processor.find import ENVIRONMENT

SLICES = 5

# What trace_processor_shell does with --stdiod, done by the same code compiled to WebAssembly.
_SHELL = """\
    #!{python}
    import os, sys
    sys.path.insert(0, {root!r})
    from profinfer.trace_processor.wasm import WasmTransport
    from profinfer.trace.varints import varint
    assert sys.argv[1:] == ["--stdiod"], sys.argv
    transport = WasmTransport()
    print("loading", file=sys.stderr)
    while piece := os.read(0, 4096):
        for reply in transport.exchange(piece, until_last_batch=False, timeout=None):
            framed = memoryview(b"\\x0a" + varint(len(reply)) + reply)
            while framed:
                framed = framed[os.write(1, framed):]
"""


def small_trace() -> bytes:
    """One thread with SLICES slices of 5 ns, one every 10 ns, named by turns s0, s1 and s2."""
    trace = Trace()
    packet = trace.packet.add(trusted_packet_sequence_id=1)
    packet.track_descriptor.uuid = 1
    packet.track_descriptor.thread.pid = packet.track_descriptor.thread.tid = 7
    for index in range(SLICES):
        for kind, time in ((TrackEvent.TYPE_SLICE_BEGIN, 0), (TrackEvent.TYPE_SLICE_END, 5)):
            packet = trace.packet.add(trusted_packet_sequence_id=1)
            packet.timestamp = 1000 + 10 * index + time
            packet.track_event.type = kind
            packet.track_event.track_uuid = 1
            if kind == TrackEvent.TYPE_SLICE_BEGIN:
                packet.track_event.name = f"s{index % 3}"
    return bytes(trace.SerializeToString())


@pytest.fixture(autouse=True)
def only_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep a Trace Processor of this machine's user out of these tests."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "small.pftrace"
    path.write_bytes(small_trace())
    return path


@pytest.fixture
def session(trace: Path) -> Iterator[Session]:
    with open_trace(trace, trace_processor="wasm") as opened:
        yield opened


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """Make an executable `trace_processor_shell` in the only directory that PATH names."""

    def make(text: str) -> Path:
        path = tmp_path / "bin" / "trace_processor_shell"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def shell(program: Callable[[str], Path]) -> Path:
    """A program that speaks as a native trace_processor_shell does."""
    root = os.fspath(Path(__file__).resolve().parents[2])
    return program(_SHELL.format(python=sys.executable, root=root))
