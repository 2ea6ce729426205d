"""The experiments that find an engine's layout: which libraries take part, and what is believed of
what the throw-away process says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from profinfer.binaries.elf import Elf
from profinfer.describing.layout import Layout, clean
from profinfer.describing.roots import Root
from profinfer.describing.sandbox import Answer, Request, ask
from profinfer.errors import GraphNeeded, ProbeError

#: The functions the experiments may call (bpf/describe/); the first are indispensable.
REQUIRED = ("ggml_init", "ggml_new_tensor_4d", "ggml_mul_mat", "ggml_op_name", "ggml_type_name")
WANTED = {
    *REQUIRED, "ggml_set_name", "ggml_add", "ggml_view_1d", "ggml_rms_norm", "ggml_norm",
    "ggml_silu", "ggml_get_data", "ggml_set_input", "ggml_set_output", "ggml_new_graph",
    "ggml_build_forward_expand", "ggml_graph_n_nodes", "ggml_graph_next_uid",
    "ggml_unary_op_name", "ggml_glu_op_name", "ggml_op_symbol", "ggml_type_size",
    "ggml_blck_size", "ggml_validate_row_data", "ggml_version", "ggml_commit",
    "ggml_backend_cpu_buffer_type", "ggml_backend_alloc_ctx_tensors_from_buft",
    "ggml_backend_cpu_init", "ggml_backend_load_all", "ggml_backend_load_all_from_path",
    "ggml_backend_dev_count", "ggml_backend_dev_get", "ggml_backend_dev_name",
    "ggml_backend_dev_init", "ggml_backend_name", "ggml_backend_guid",
    "ggml_backend_get_device", "ggml_backend_graph_compute_async", "ggml_backend_sched_new",
    "ggml_backend_sched_graph_compute", "ggml_backend_sched_reset",
    # Current and former names of what it takes to decode with a model.
    "llama_model_load_from_file", "llama_load_model_from_file", "llama_init_from_model",
    "llama_new_context_with_model", "llama_model_default_params", "llama_context_default_params",
    "llama_backend_init", "llama_decode", "llama_n_seq_max",
}  # fmt: skip
HOOKED = "process_ubatch"
"""What `llama_context`'s is called to the describer."""
_HOOKED = "_ZN13llama_context14process_ubatchERK12llama_ubatch"
_ET_EXEC = 2
_DT_FLAGS_1, _DF_1_PIE = 0x6FFFFFFB, 0x08000000
_EMULATED = 10
"""Times as long as natively."""
_UNREADABLE_HINT = "it is loaded as its owner, who must be able to read it and its folder"
_LIVE_HINT = "what its structs look like is inferred while it computes: record it"
_HINT = "The engine may be too old, damaged, or built for another system than this one."


def experiment(
    files: Sequence[tuple[Elf, str]], uid: int, gid: int, timeout: float, root: Root
) -> tuple[Layout, bool]:
    """(layout, whether another attempt would find the same). `files` come with their paths in the
    root."""
    if root.emulator:
        timeout *= _EMULATED
    elves = [elf for elf, _ in files]
    names = [path.rpartition("/")[2] for _, path in files]
    symbols = _wanted(elves)
    used = sorted({index for index, _ in symbols.values()})
    name = next((names[symbols[n][0]] for n in REQUIRED if n in symbols), "")
    missing = [n for n in REQUIRED if n not in symbols]
    if missing:
        what = name or ", ".join(names[:4]) or "no library"
        raise GraphNeeded(f"{what} could not describe itself: no {missing[0]} in it", _LIVE_HINT)
    home = symbols["ggml_init"][0]
    elf = elves[home]
    is_marked = elf.dynamic.get(_DT_FLAGS_1, 0) & _DF_1_PIE
    if elf.type == _ET_EXEC or is_marked or (elf.interp and not elf.soname):
        raise GraphNeeded(
            f"{name} could not describe itself: it is a program and cannot be loaded", _LIVE_HINT
        )
    request = Request(
        objects=[(elves[index].descriptor, files[index][1]) for index in used],
        backends=used.index(home),
        symbols={n: (used.index(index), value) for n, (index, value) in symbols.items()},
        root=root,
    )
    answer = ask(request, uid=uid, gid=gid, timeout=timeout)
    data = _checked(name, answer)
    try:
        return Layout.from_dict(data), answer.final
    except ProbeError as error:
        try:
            whole = Layout.from_dict({**data, "ubatch": None})
        except ProbeError:
            text = "; ".join([error.message, *data["notes"][:4]])
            raise ProbeError(f"{name} could not describe itself: {text}", _HINT) from None
    notes = (*whole.notes, "ubatch: not all of it was found")
    return Layout.from_dict({**data, "ubatch": None, "notes": list(notes)}), answer.final


def _texts(value: object) -> list[str]:
    """The texts of an untrusted list of notes, printable."""
    items = value[:64] if isinstance(value, list) else []
    return [clean(item, 400) for item in items if isinstance(item, str)]


def _checked(name: str, answer: Answer) -> dict[str, Any]:
    """The answer when it got as far as a layout, with notes on what it lacks; or ProbeError."""
    data = answer.data or {}
    notes = _texts(data.get("notes"))
    reason = data.get("error") or data.get("unreadable") or answer.failure
    why = clean(str(reason or "it gave no layout"), 300)
    if "tensor" not in data:
        hint = _UNREADABLE_HINT if "unreadable" in data else _HINT
        text = "; ".join([why, *notes[:2]])
        raise ProbeError(f"{name} could not describe itself: {text}", hint)
    # Each line holds what the one before did: what comes last is missing first.
    if reason:
        lacking = [part for part in ("backend", "ubatch") if part not in data]
        notes += [f"{part}: {why}" for part in lacking or ["backend"]]
    return {**data, "notes": list(dict.fromkeys(notes))}


def _wanted(elves: Sequence[Elf]) -> dict[str, tuple[int, int]]:
    """(index of the file, value) of every function an experiment may call, by its plain name."""
    found: dict[str, tuple[int, int]] = {}
    for index, elf in enumerate(elves):
        functions = elf.functions_from(("ggml_", "llama_", _HOOKED))
        for name, value in functions.items():
            if name in WANTED:
                found.setdefault(name, (index, value))
            elif "llama_decode" in functions and re.fullmatch(rf"{_HOOKED}[^.]*", name):
                found.setdefault(HOOKED, (index, value))
    return found
