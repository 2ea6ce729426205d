"""Experiment on llama.cpp: where `llama_ubatch` keeps what. Only for the throw-away process.

The struct is internal, but a reference to it is an argument of `llama_context::process_ubatch`.
So a tiny model is given batches with unusual contents, and that function's first instructions,
in this process's own memory, are replaced by a jump to us.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import platform
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from profinfer.layout_child_backend import load_backends
from profinfer.layout_engine import Engine, Ptr, Unfit, emit, peek, slots

I32 = ctypes.c_int32

#: Current and former names of the functions needed to decode with a model.
LOAD = ("llama_model_load_from_file", "llama_load_model_from_file")
CONTEXT = ("llama_init_from_model", "llama_new_context_with_model")
DEFAULTS = ("llama_model_default_params", "llama_context_default_params")
HOOKED = "process_ubatch"
WANTED = (*LOAD, *CONTEXT, *DEFAULTS, "llama_backend_init", "llama_decode", "llama_n_seq_max",
          "ggml_backend_load_all", "ggml_backend_load_all_from_path")  # fmt: skip

#: The vocabulary of the model that is handed in.
VOCABULARY = 64
_SEQUENCES = 8
_READ = 192
_POINTERS = {"token": "i", "pos": "i", "n_seq_id": "i", "output": "b"}

_libc = ctypes.CDLL(None, use_errno=True)


class _Opaque(ctypes.Structure):
    """A parameter struct of unknown contents, larger than any: passed in memory like them all."""

    _fields_ = (("words", ctypes.c_uint32 * 256),)


class _Batch(ctypes.Structure):
    """`llama_batch`, with room for the members that old versions have at the end."""

    _fields_ = (("n_tokens", I32), ("token", Ptr), ("embd", Ptr), ("pos", Ptr), ("n_seq_id", Ptr),
                ("seq_id", Ptr), ("logits", Ptr), ("spare", ctypes.c_uint64 * 6))  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One batch: `rows` tokens for each of `sequences`, in a context for one or many of them."""

    sequences: tuple[int, ...]
    rows: int
    many: bool

    @property
    def count(self) -> int:
        return self.rows * len(self.sequences)

    def columns(self, first: int) -> dict[str, list[int]]:
        """The batch's columns, `count` values each, positions from `first` on."""
        count = self.count
        return {
            "token": [(7 + 11 * i + self.rows) % VOCABULARY for i in range(count)],
            "pos": [first + i % self.rows for i in range(count)],
            "n_seq_id": [1] * count,
            "output": [int(i % 3 == 1 or i == count - 1) for i in range(count)],
            "seq_id": [s for s in self.sequences for _ in range(self.rows)],
        }


#: (n_tokens, n_seq_tokens, n_seqs, n_seqs_unq) differ in these three, where the context for many
#: sequences splits by sequence and the one for a single sequence does not.
TRIALS = (Trial((5,), 11, True), Trial((5, 6), 7, True), Trial((0,), 13, False))
COUNTS = {
    "n_tokens": (11, 14, 13),
    "n_seq_tokens": (11, 7, 1),
    "n_seqs": (1, 2, 13),
    "n_seqs_unq": (1, 2, 1),
}


def hook(address: int, callback: int) -> None:
    """Overwrite a function's entry by a jump. Unfit when this processor or system refuses."""
    jumps = {
        "x86_64": b"\x48\xb8" + struct.pack("<Q", callback) + b"\xff\xe0",
        "aarch64": bytes.fromhex("5000005800021fd6") + struct.pack("<Q", callback),
    }
    code = jumps.get(platform.machine())
    if code is None:
        raise Unfit(f"no jump is known for {platform.machine()}")
    start = address & -mmap.PAGESIZE
    size = (address + len(code) - start + mmap.PAGESIZE - 1) & -mmap.PAGESIZE
    # Never writable and executable at once: some systems refuse it, and it is the return to
    # executable that makes the kernel bring the instruction cache up to date where it must.
    for phase, protection in enumerate((mmap.PROT_WRITE, mmap.PROT_EXEC)):
        if _libc.mprotect(Ptr(start), ctypes.c_size_t(size), mmap.PROT_READ | protection) != 0:
            raise Unfit(f"code cannot be replaced: {os.strerror(ctypes.get_errno())}")
        if phase == 0:
            ctypes.memmove(address, code, len(code))


def observe(pointer: int, trial: Trial, first: int) -> dict[str, Any] | None:
    """Offsets at which the struct there agrees with the trial, or None when it cannot be it."""
    try:
        raw = peek(pointer, _READ)
    except Unfit:
        return None
    columns, count = trial.columns(first), trial.count
    found: dict[str, Any] = {name: [] for name in (*_POINTERS, "seq_id")}
    for at in range(0, len(raw) - 7, 8):
        (target,) = struct.unpack_from("<Q", raw, at)
        for name, code in _POINTERS.items():
            want = struct.pack(f"<{count}{code}", *columns[name])
            if _reads(target, want):
                found[name].append(at)
        with contextlib.suppress(Unfit, struct.error):
            rows = struct.unpack(f"<{count}Q", peek(target, 8 * count))
            pairs = zip(rows, columns["seq_id"], strict=True)
            if all(_reads(row, struct.pack("<i", sequence)) for row, sequence in pairs):
                found["seq_id"].append(at)
    if not found["pos"]:
        return None
    trial_at = TRIALS.index(trial)
    for name, values in COUNTS.items():
        found[name] = slots([raw], [values[trial_at]], 4)
    return found


def _reads(address: int, want: bytes) -> bool:
    try:
        return peek(address, len(want)) == want
    except Unfit:
        return False


def _first(engine: Engine, names: Sequence[str]) -> str:
    for name in names:
        if engine.has(name):
            return name
    raise Unfit(f"no function {names[0]}")


def run(engine: Engine, model: str, trial: Trial, report: Callable[[dict[str, Any]], None]) -> None:
    """Decode the trial's batch; `report` is called from within, or Unfit raised after it."""
    engine.call("llama_backend_init", None)
    load_backends(engine)
    parameters = engine.call(DEFAULTS[0], _Opaque)
    load = engine.fn(_first(engine, LOAD), Ptr, ctypes.c_char_p, _Opaque)
    loaded = load(model.encode(), parameters)
    if not loaded:
        raise Unfit("the tiny model was refused")
    parameters = engine.call(DEFAULTS[1], _Opaque)
    words = parameters.words
    # n_ctx, n_batch, n_ubatch, n_seq_max come first; believed only where they look like it.
    sane = all(32 <= words[i] <= 1 << 16 for i in (1, 2)) and words[3] == 1
    if trial.many:
        if not sane:
            raise Unfit("llama_context_params starts with something unknown")
        words[0], words[3] = 256 * _SEQUENCES, _SEQUENCES
    context = engine.call(_first(engine, CONTEXT), Ptr, Ptr(loaded), parameters)
    if not context:
        raise Unfit("no context for the tiny model")
    if trial.many and engine.has("llama_n_seq_max"):
        allowed = engine.call("llama_n_seq_max", ctypes.c_uint32, Ptr(context))
        if allowed != _SEQUENCES:
            raise Unfit("n_seq_max is not where it was expected")
    address = engine.address(HOOKED)
    if address is None:
        raise Unfit("no process_ubatch")
    position = 0

    def entered(*arguments: int | None) -> int:
        # With a returned struct a hidden argument comes before `this`.
        for index in (1, 2):
            found = observe(arguments[index] or 0, trial, position)
            if found is not None:
                report({"arg": index, **found})
                break
        else:
            report({"error": "process_ubatch was given no such batch"})
        os._exit(0)

    callback = ctypes.CFUNCTYPE(Ptr, Ptr, Ptr, Ptr)(entered)
    hook(address, ctypes.cast(callback, Ptr).value or 0)
    decode = engine.fn("llama_decode", I32, Ptr, _Batch)
    for position in (101, 0):
        batch, _kept = _batch(trial.columns(position))
        status = decode(context, batch)
    raise Unfit(f"llama_decode returned {status} without process_ubatch")


def _batch(columns: dict[str, list[int]]) -> tuple[_Batch, list[Any]]:
    """The batch and the arrays that must live as long as it."""
    count = len(columns["pos"])
    ints = {name: (I32 * count)(*columns[name]) for name in ("token", "pos", "n_seq_id")}
    sequences = [I32(s) for s in columns["seq_id"]]
    pointers = (Ptr * count)(*map(ctypes.addressof, sequences))
    logits = (ctypes.c_int8 * count)(*columns["output"])
    kept = [*ints.values(), *sequences, pointers, logits]
    address = {name: ctypes.addressof(array) for name, array in ints.items()}
    return _Batch(count, address["token"], None, address["pos"], address["n_seq_id"],
                  ctypes.addressof(pointers), ctypes.addressof(logits)), kept  # fmt: skip


def _in_fork(work: Callable[[int], None]) -> dict[str, Any]:
    """What `work` writes as one line of JSON to the descriptor it is given, in a copy of us."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        try:
            work(writable)
        except (Unfit, OSError) as error:
            emit(writable, {"error": str(error)})
        os._exit(0)
    os.close(writable)
    with open(readable, "rb") as stream:
        line = stream.readline(1 << 16)
    _, status = os.waitpid(child, 0)
    try:
        found = json.loads(line)
    except ValueError:
        return {"error": f"the engine ended with {os.waitstatus_to_exitcode(status)}"}
    return found if isinstance(found, dict) else {"error": "no object"}


def describe_ubatch(engine: Engine, channel: int, model: str) -> None:
    """Run the trials and write the offsets all of them agree on."""

    def work(trial: Trial) -> Callable[[int], None]:
        return lambda out: run(engine, model, trial, lambda result: emit(out, result))

    results = [_in_fork(work(trial)) for trial in TRIALS]
    errors = [result["error"] for result in results if "error" in result]
    results = [result for result in results if "error" not in result]
    for error in sorted(set(errors)):
        engine.notes.append(f"ubatch: {error}")
    found: dict[str, Any] | None = None
    if results and len({result["arg"] for result in results}) == 1:
        found = {"arg": results[0]["arg"]}
        common = {
            name: set.intersection(*(set(result[name]) for result in results))
            for name in (*_POINTERS, "seq_id", *COUNTS)
        }
        # Past the end of the struct there may lie a stale copy of it: all its fields are as far
        # from ours as its `pos` is, and ours comes first.
        copies = [offset - min(common["pos"]) for offset in common["pos"]]
        end = max(min(common[name], default=0) for name in (*_POINTERS, "seq_id"))
        for name, offsets in common.items():
            firsts = {o for o in offsets if not any(d and o - d in offsets for d in copies)}
            if name in COUNTS:
                # Numbers as small as these also turn up by chance, behind the struct.
                firsts = {o for o in firsts if o < end} or firsts
            found[name] = _choose(engine, name, firsts, len(results) == len(TRIALS))
    emit(channel, {"ubatch": found, "notes": engine.notes})


def _choose(engine: Engine, name: str, common: set[int], complete: bool) -> int | None:
    if name in COUNTS and not complete and len(common) > 1:
        engine.notes.append(f"ubatch.{name}: not told apart from others, a trial is missing")
        return None
    if name in _POINTERS and len(common) > 1:
        # Past the end of the struct the heap may hold a stale copy: ours comes first.
        engine.notes.append(f"ubatch.{name}: first of {sorted(common)} taken")
        return min(common)
    return engine.one(f"ubatch.{name}", common)
