"""Two engines and one recording that all tests here share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from tests.commands.command import TIMEOUT, Recorded, profinfer
from tests.conftest import Require


def _build(repo: Path, folder: Path, cflags: str = "") -> Path:
    subprocess.run(
        ["sh", repo / "tests/double/build.sh", folder],
        check=True,
        timeout=TIMEOUT,
        env={**os.environ, "CFLAGS": cflags},
    )
    return folder


@pytest.fixture(scope="session")
def root(require: Require) -> None:
    """Whatever attaches probes or mounts."""
    require("root and BPF", os.geteuid() == 0 and Path("/sys/kernel/tracing").is_dir())


@pytest.fixture(scope="session")
def engine(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the test engine."""
    return _build(repo, tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def engine_without_barrier(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, in which ggml_barrier has another name."""
    folder = tmp_path_factory.mktemp("without-barrier")
    return _build(repo, folder, "-Dggml_barrier=hidden_barrier")


@pytest.fixture(scope="session")
def engine_without_llama(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with ggml alone."""
    return _build(repo, tmp_path_factory.mktemp("without-llama"), "-DWITHOUT_LLAMA")


@pytest.fixture(scope="session")
def recorded(root: None, engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    del root
    folder = tmp_path_factory.mktemp("recorded")
    made = Recorded(folder / "t.pftrace", folder / "t.raw")
    options = ("--scheduler", "off", "--level", "barrier", "-o", made.trace, "--raw", made.raw)
    ran = profinfer("record", *options, "--", engine / "known", "--decode", 2, cwd=folder)
    assert ran.code == 0, ran.err
    return made


@pytest.fixture(scope="session")
def foreign_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Perfetto trace of a program that has nothing to do with ProfInfer."""
    trace = Trace()
    packet = trace.packet.add(trusted_packet_sequence_id=1)
    packet.track_descriptor.uuid = 1
    packet.track_descriptor.thread.pid = packet.track_descriptor.thread.tid = 7
    for time, kind in ((1000, TrackEvent.TYPE_SLICE_BEGIN), (1005, TrackEvent.TYPE_SLICE_END)):
        packet = trace.packet.add(trusted_packet_sequence_id=1, timestamp=time)
        packet.track_event.type = kind
        packet.track_event.track_uuid = 1
        packet.track_event.name = "foreign"
    path = tmp_path_factory.mktemp("foreign") / "foreign.pftrace"
    path.write_bytes(trace.SerializeToString())
    return path
