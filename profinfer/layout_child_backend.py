"""Experiments on ggml's backends. Only for the throw-away process of `layout_child`."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

from profinfer.layout_child_ggml import I32, chain
from profinfer.layout_engine import Engine, Ptr, Unfit, peek_all, peek_text, slots

_SIZE = 256


def cpu_backend(engine: Engine) -> int:
    """A CPU backend; builds with loadable backends look for one next to their libraries."""
    if engine.has("ggml_backend_cpu_init"):
        made = engine.call("ggml_backend_cpu_init", Ptr)
    else:
        load_backends(engine)
        made = None
        for index in range(min(engine.call("ggml_backend_dev_count", ctypes.c_size_t), 64)):
            device = engine.call("ggml_backend_dev_get", Ptr, ctypes.c_size_t(index))
            if peek_text(engine.call("ggml_backend_dev_name", Ptr, Ptr(device))) == "CPU":
                made = engine.call("ggml_backend_dev_init", Ptr, Ptr(device), Ptr(None))
                break
    if not made:
        raise Unfit("there is no CPU backend")
    return int(made)


def load_backends(engine: Engine) -> None:
    """Let a build with loadable backends find them in the working directory."""
    if engine.has("ggml_backend_load_all_from_path"):
        engine.fn("ggml_backend_load_all_from_path", None, ctypes.c_char_p)(b".")
    elif engine.has("ggml_backend_load_all"):
        engine.call("ggml_backend_load_all", None)


def backend(engine: Engine, cpu: int) -> dict[str, Any]:
    """Offsets in `struct ggml_backend`, and the CPU's GUID, from a CPU backend."""
    raw = peek_all(cpu, _SIZE)
    guid = int(engine.call("ggml_backend_guid", Ptr, Ptr(cpu)) or 0)
    found: dict[str, Any] = {
        "guid": engine.one("backend.guid", slots([raw], [guid], 8)),
        "cpu_guid": peek_all(guid, 16).hex(),
    }
    if engine.has("ggml_backend_get_device"):
        device = int(engine.call("ggml_backend_get_device", Ptr, Ptr(cpu)) or 0)
        found["device"] = engine.one("backend.device", slots([raw], [device], 8))
    found["get_name"] = _called(engine, "ggml_backend_name")
    found["graph_compute"] = _called(engine, "ggml_backend_graph_compute_async")
    return found


def _called(engine: Engine, name: str) -> int | None:
    """Which function pointer of a backend a library function calls: try it on a counterfeit."""
    if not engine.has(name):
        engine.notes.append(f"backend: no {name}")
        return None
    text = ctypes.create_string_buffer(b"counterfeit")
    hits: list[int] = []
    kind = ctypes.CFUNCTYPE(ctypes.c_size_t, Ptr, Ptr)

    def method(offset: int) -> Callable[[Any, Any], int]:
        def called(_backend: Any, _argument: Any) -> int:
            hits.append(offset)
            return ctypes.addressof(text)

        return called

    methods = [kind(method(at)) for at in range(0, _SIZE, 8)]
    addresses = [ctypes.cast(m, Ptr).value or 0 for m in methods]
    counterfeit = ctypes.create_string_buffer(struct.pack(f"<{len(addresses)}Q", *addresses))
    graph, _ = chain(engine, 3)
    engine.call(name, Ptr, Ptr(ctypes.addressof(counterfeit)), Ptr(graph))
    return engine.one(f"backend function called by {name}", set(hits))


def graph_uid(engine: Engine, cpu: int, graph_compute: int) -> int | None:
    """Where a scheduled graph keeps its unique number, where the engine numbers them.

    The backend's own function is replaced by ours, so that nothing is computed and we see the
    graph as the backend is given it.
    """
    seen: list[bytes] = []

    def compute(_backend: Any, graph: int | None) -> int:
        seen.append(peek_all(graph or 0, 128))
        return 0

    replacement = ctypes.CFUNCTYPE(ctypes.c_int, Ptr, Ptr)(compute)
    slot = ctypes.c_void_p.from_address(cpu + graph_compute)
    original, slot.value = slot.value, ctypes.cast(replacement, Ptr).value
    try:
        backends = (Ptr * 1)(cpu)
        scheduler = engine.call(
            "ggml_backend_sched_new", Ptr, Ptr(ctypes.addressof(backends)), Ptr(None), I32(1),
            ctypes.c_size_t(512), ctypes.c_bool(False), ctypes.c_bool(False),
        )  # fmt: skip
        next_uid = engine.fn("ggml_graph_next_uid", ctypes.c_uint64)
        ranges = []
        for count in (3, 5, 7):
            graph, _ = chain(engine, count)
            # Spread the numbers out: small ones occur everywhere.
            low = max(next_uid() for _ in range(1000))
            engine.call("ggml_backend_sched_reset", None, Ptr(scheduler))
            engine.call("ggml_backend_sched_graph_compute", I32, Ptr(scheduler), Ptr(graph))
            ranges.append((low, next_uid()))
    finally:
        slot.value = original
    if len(seen) != len(ranges):
        raise Unfit("the scheduler did not hand over one graph at a time")
    return engine.one("cgraph.uid", [
        at for at in range(0, 128, 8)
        if all(low < struct.unpack_from("<Q", raw, at)[0] < high
               for raw, (low, high) in zip(seen, ranges, strict=True))
    ])  # fmt: skip
