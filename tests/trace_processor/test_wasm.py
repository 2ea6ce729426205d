"""The embedded Trace Processor: its cache, and how it dies."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import wasmtime

from profinfer.cache import private_folder
from profinfer.errors import TraceProcessorError
from profinfer.trace.varints import varint
from profinfer.trace_processor import Session, aot, open_trace
from profinfer.trace_processor.backend import TransportTraceProcessor
from profinfer.trace_processor.wasm import WasmTransport, wasm_path
from tests.trace_processor.test_session import FOREVER

# The smallest module there is: the cache's rules do not depend on what is compiled.
EMPTY_MODULE = b"\0asm\x01\0\0\0"
OTHER_MODULE = EMPTY_MODULE + b"\x00\x02\x01x"  # the same with a custom section


def private(path: Path) -> Path:
    path.mkdir(mode=0o700)
    return path


def test_corrupted_image_is_compiled_again(tmp_path: Path) -> None:
    cache = private(tmp_path / "cache")
    wasm = tmp_path / "m.wasm"
    wasm.write_bytes(EMPTY_MODULE)
    engine = wasmtime.Engine()
    aot.load_module(engine, wasm, cache)
    (image,) = cache.iterdir()
    good = image.read_bytes()
    assert image.stat().st_mode & 0o777 == 0o600
    assert hashlib.sha256(good[32:]).digest() == good[:32]
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:40], b"", bytes(32) + good[32:]):
        image.write_bytes(bad)
        aot.load_module(engine, wasm, cache)
        assert image.read_bytes()[:32] == hashlib.sha256(image.read_bytes()[32:]).digest()
    assert [file.name for file in cache.iterdir()] == [image.name]


def test_a_sound_image_is_not_compiled_again(tmp_path: Path) -> None:
    cache = private(tmp_path / "cache")
    wasm = tmp_path / "m.wasm"
    wasm.write_bytes(EMPTY_MODULE)
    aot.load_module(wasmtime.Engine(), wasm, cache)
    (image,) = cache.iterdir()
    before = image.stat().st_ino
    aot.load_module(wasmtime.Engine(), wasm, cache)
    assert image.stat().st_ino == before  # a compilation would have replaced it
    wasm.write_bytes(OTHER_MODULE)
    aot.load_module(wasmtime.Engine(), wasm, cache)
    assert len(list(cache.iterdir())) == 2


def test_an_image_that_others_may_write_or_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    cache = private(tmp_path / "cache")
    wasm = tmp_path / "m.wasm"
    wasm.write_bytes(EMPTY_MODULE)
    aot.load_module(wasmtime.Engine(), wasm, cache)
    (image,) = cache.iterdir()
    image.chmod(0o666)
    before = image.stat().st_ino
    aot.load_module(wasmtime.Engine(), wasm, cache)
    assert image.stat().st_ino != before
    assert image.stat().st_mode & 0o777 == 0o600
    elsewhere = tmp_path / "elsewhere"
    image.rename(elsewhere)
    image.symlink_to(elsewhere)
    aot.load_module(wasmtime.Engine(), wasm, cache)
    assert not image.is_symlink()


def test_an_image_of_another_configuration_is_replaced(tmp_path: Path) -> None:
    cache = private(tmp_path / "cache")
    wasm = tmp_path / "m.wasm"
    wasm.write_bytes(EMPTY_MODULE)
    aot.load_module(wasmtime.Engine(), wasm, cache)
    (image,) = cache.iterdir()
    before = image.read_bytes()
    config = wasmtime.Config()
    config.epoch_interruption = True
    aot.load_module(wasmtime.Engine(config), wasm, cache)
    assert image.read_bytes() != before


def test_the_cache_directory_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = private_folder("trace_processor")
    assert path == tmp_path / "profinfer" / "trace_processor"
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o755)
    assert private_folder("trace_processor") is None
    path.rmdir()
    path.symlink_to(private(tmp_path / "target"))
    assert private_folder("trace_processor") is None
    path.unlink()
    path.write_text("a file")
    assert private_folder("trace_processor") is None
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(private(tmp_path / "home")))
    assert private_folder("trace_processor") == tmp_path / "home/.cache/profinfer/trace_processor"


@pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: sudo make test (PROFINFER_NO_SKIP=1: fail)"
)
def test_a_directory_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = private_folder("trace_processor")
    assert path is not None
    os.chown(path, 65534, 65534)
    assert private_folder("trace_processor") is None


def test_a_broken_build_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceProcessorError, match="cannot load"):
        WasmTransport(wasm=tmp_path / "absent.wasm", cache=private(tmp_path / "cache"))


def test_the_installed_build_is_found() -> None:
    assert wasm_path().parent.parent.name == "web_dist"


def test_a_trap_ends_one_instance(session: Session) -> None:
    with open_trace(None, trace_processor="wasm") as broken:
        transport = broken.tp.rpc.transport
        assert isinstance(transport, WasmTransport)
        # With its static data overwritten the program goes wrong as a miscompiled one would.
        transport._host.write(1 << 16, b"\xff" * (1 << 20))
        with pytest.raises(TraceProcessorError, match="died"):
            broken.query("SELECT 1")
        with pytest.raises(TraceProcessorError, match="has ended"):
            broken.query("SELECT 1")
    assert session.query("SELECT 1").rows() == [(1,)]


def test_running_out_of_memory_ends_one_instance(session: Session, trace: Path) -> None:
    tp = TransportTraceProcessor(WasmTransport(max_memory=64 << 20))
    large = trace.read_bytes() * 200_000
    with pytest.raises(TraceProcessorError, match=r"died.*memory") as error:
        tp.rpc.parse(large)
    assert "native trace_processor_shell" in error.value.hint
    tp.close()
    assert session.query("SELECT 1").rows() == [(1,)]


def test_a_broken_request_is_refused(session: Session) -> None:
    with open_trace(None, trace_processor="wasm") as broken:
        broken.tp.rpc.transport.exchange(b"\xff" * 30, until_last_batch=False, timeout=None)
        for _ in range(2):
            with pytest.raises(TraceProcessorError):
                broken.query("SELECT 1")
    assert session.query("SELECT 1").rows() == [(1,)]


def test_ctrl_c_interrupts_a_query(session: Session) -> None:
    # Where the tests run in a shell's background, SIGINT is ignored from the start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.query(FOREVER)
    assert time.monotonic() - begin < 5
    with pytest.raises(TraceProcessorError, match="interrupted"):
        session.query("SELECT 1")


def test_ctrl_c_ends_the_query_command(trace: Path) -> None:
    """Which does not listen while Trace Processor works: it is killed."""
    command = [sys.executable, "-m", "profinfer", "query", "--trace-processor", "wasm"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--sql", FOREVER, str(trace)], env=environment,
        # As a shell does it for what runs in the foreground.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(15)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT


def test_what_cannot_be_interrupted_answers_alike(trace: Path) -> None:
    sql = "SELECT name, dur FROM slice ORDER BY id"
    with open_trace(trace, trace_processor="wasm") as session:
        expected = session.query(sql).rows()
    with open_trace(trace, trace_processor="wasm", interruptible=False) as session:
        assert session.query(sql).rows() == expected
    assert expected
    cache = private_folder("trace_processor")
    assert cache is not None
    assert aot.image_name(b"", "-fast") != aot.image_name(b"")
    assert any("-fast-" in image.name for image in cache.iterdir())


def test_closed(trace: Path) -> None:
    session = open_trace(trace, trace_processor="wasm")
    session.close()
    session.close()
    with pytest.raises(TraceProcessorError, match="closed"):
        session.query("SELECT 1")


def test_a_trace_larger_than_one_request(trace: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.pftrace"
    data = trace.read_bytes()
    # One packet, of a field that nobody knows, is larger than a whole request.
    field = b"\xfa\xff\x03"
    body = field + varint(9 << 20) + bytes(9 << 20)
    large.write_bytes(b"\x0a" + varint(len(body)) + body + data)
    with open_trace(large, trace_processor="wasm") as session:
        assert session.query("SELECT COUNT(*) FROM slice").rows() == [(5,)]


def limited(megabytes: int, trace: Path, sql: str) -> subprocess.CompletedProcess[str]:
    """`profinfer query` of it as CSV, where no process may have more address space."""
    return subprocess.run(
        [sys.executable, "-m", "profinfer", "query", "--sql", sql, "--format", "csv", trace],
        capture_output=True, text=True, timeout=200, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20,) * 2),
    )  # fmt: skip


def test_little_address_space_is_enough_for_a_small_trace(trace: Path) -> None:
    """By default four gigabytes of it are reserved."""
    ran = limited(2000, trace, "SELECT COUNT(*) AS n FROM slice")
    assert ran.stdout == "n\n5\n", ran.stderr


def test_memory_that_runs_out_is_no_damage(trace: Path) -> None:
    ran = limited(
        700,
        trace,
        "CREATE PERFETTO TABLE t AS WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r"
        " WHERE i < 30000000) SELECT i, hex(i) AS s FROM r",
    )
    assert ran.returncode == 10, ran.stderr
    assert "out of memory" in ran.stderr
    assert "damaged" not in ran.stderr
    assert "--duration" in ran.stderr


def test_hardly_any_memory_ends_in_a_message(trace: Path) -> None:
    ran = limited(300, trace, "SELECT 1")
    assert ran.returncode == 4, ran.stderr
    assert "there is not enough memory" in ran.stderr
    assert "Traceback" not in ran.stderr
