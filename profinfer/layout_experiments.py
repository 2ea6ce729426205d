"""Let an engine describe itself, in a process that is confined already.

Called by `layout_child`, or run by it under an emulator: `python -I -S layout_experiments.py`,
a JSON request on standard input. Answers are lines of JSON, each with more than the one before,
so that a crash keeps what was found.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

# -I leaves our own folder out of the path. Not resolved: it is reached by a descriptor.
sys.path.append(os.path.dirname(os.path.dirname(__file__)))

from profinfer import layout_child_backend, layout_child_ggml, layout_child_ubatch
from profinfer.layout_engine import Engine, Unfit, emit


def run(request: dict[str, Any]) -> None:
    """The experiments of request["stage"] on the objects in the open directories."""
    channel = request["channel"]
    notes: list[str] = list(request["notes"])
    try:
        engine = Engine(request["descriptors"], request["objects"], request["symbols"])
        engine.notes[:0] = notes
        notes = engine.notes
        if request["stage"] == "ubatch":
            layout_child_ubatch.describe_ubatch(engine, channel, request["model"])
        else:
            _describe_ggml(engine, channel)
    except (Unfit, OSError) as error:
        emit(channel, {"error": str(error), "notes": notes})


def _describe_ggml(engine: Engine, channel: int) -> None:
    """Everything about ggml itself, written again whenever there is more."""
    found: dict[str, Any] = {"notes": engine.notes}
    found.update(layout_child_ggml.names(engine))
    found["tensor"] = layout_child_ggml.tensor(engine, found)
    found["cgraph"] = layout_child_ggml.cgraph(engine)
    emit(channel, found)
    cpu = engine.attempt("backend", lambda: layout_child_backend.cpu_backend(engine))
    if cpu is None:
        return emit(channel, found)
    backend = engine.attempt("backend", lambda: layout_child_backend.backend(engine, cpu))
    found["backend"] = backend
    emit(channel, found)
    compute = (backend or {}).get("graph_compute")
    if compute is not None:
        found["cgraph"]["uid"] = engine.attempt(
            "cgraph.uid", lambda: layout_child_backend.graph_uid(engine, cpu, compute)
        )
    emit(channel, found)
    return None


if __name__ == "__main__":
    run(json.load(sys.stdin))
    # Not through the library's destructors, which may do anything.
    os._exit(0)
