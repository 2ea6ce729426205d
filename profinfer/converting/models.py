"""The tensors of GGUF files: which bytes of a file hold which weights of which layer and expert."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from profinfer.converting.identity import layer_of
from profinfer.describing.layout import clean, printable
from profinfer.describing.sandbox import nobody
from profinfer.errors import TraceError

_CHILD = Path(__file__).with_name("gguf_child.py")
_SECONDS, _PATIENCE = 20, 40
"""Of CPU time, and until it is given up: others may want the CPU, too."""
_MAX_TENSORS = 1 << 17
_MAX_ANSWER = 64 << 20
_MAX_BYTES = 1 << 55
_MAX_EXPERTS, _MAX_PIECES = 1 << 12, 1 << 18
"""Of a tensor, and of all tensors of a file: SQL makes a row of each."""
_EXPERTS = re.compile(r"_exps\.")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "OPENBLAS_NUM_THREADS": "1"}


def describe_model(frame: bytes) -> dict[str, Any]:
    """What the header in a MODEL frame says: `error` is None where it could be read. Its texts are
    clean and its numbers plausible, whatever the file holds; JSON. TraceError when the frame is
    damaged."""
    try:
        [length] = struct.unpack_from("<I", frame)
        model = json.loads(frame[4 : 4 + length])
        found = {
            "device": int(model["device"]), "inode": int(model["inode"]),
            "path": printable(str(model["path"])), "overlaid": bool(model["overlaid"]),
            "seen": bool(model.get("seen", True)), "direct": bool(model.get("direct", False)),
        }  # fmt: skip
        problem, size = model["problem"], int(model["size"])
    except (LookupError, TypeError, ValueError, struct.error):
        raise TraceError("a MODEL frame of the capture is damaged") from None
    if problem is not None:
        return {**found, "error": clean(str(problem), 200), "tensors": []}
    try:
        return {**found, "error": None, **_checked(_ask(frame[4 + length :], size))}
    except (LookupError, TypeError, ValueError) as error:
        return {**found, "error": clean(str(error), 200), "tensors": []}


def _file(header: bytes, size: int) -> int:
    """A file of that size that begins so, for the reader: it says where tensors lie. ValueError."""
    if size < len(header):
        raise ValueError("its header is longer than the file")
    fd = os.memfd_create("header")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(header)
        os.truncate(fd, size)  # without a page for what was not written
    except (OSError, OverflowError):
        os.close(fd)
        raise ValueError(f"its size cannot be: {size} bytes") from None
    return fd


def _ask(header: bytes, size: int) -> dict[str, Any]:
    """ValueError saying what went wrong."""
    uid, gid = nobody()
    limits = map(str, (_SECONDS, _MAX_ANSWER, uid, gid, len(header)))
    command = [sys.executable, "-I", "-B", str(_CHILD), *limits]
    fd = _file(header, size)
    # Into a file, whose size the kernel limits: a header can claim whatever it likes.
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                command, stdin=fd, stdout=said, stderr=subprocess.DEVNULL, env=_ENVIRONMENT,
                cwd="/", timeout=_PATIENCE, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ValueError(f"its header was not read within {_PATIENCE} s") from None
        except OSError as error:
            raise ValueError(f"cannot start {sys.executable}: {error.strerror}") from None
        finally:
            os.close(fd)
        if done.returncode:
            raise ValueError(f"reading its header ended with status {done.returncode}")
        said.seek(0)
        answer = json.loads(said.read())
    if not isinstance(answer, dict):
        raise TypeError("its header was not understood")
    if "error" in answer:
        raise ValueError(str(answer["error"]))
    return answer


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    tensors = answer["tensors"]
    if len(tensors) > _MAX_TENSORS:
        raise ValueError(f"it claims to have {len(tensors)} tensors")
    found: dict[str, Any] = {
        name: clean(str(answer[name]), 100) for name in ("architecture", "name") if name in answer
    }
    for name in ("expert_count", "expert_used_count", "block_count"):
        if name in answer:
            found[name] = _number(answer[name])
    found["tensors"] = [_tensor(tensor) for tensor in tensors]
    if sum(tensor["experts"] or 1 for tensor in found["tensors"]) > _MAX_PIECES:
        raise ValueError("it claims to have more experts than there can be")
    # What lies where must have one answer.
    end = 0
    for tensor in sorted(found["tensors"], key=lambda t: (t["offset"], t["bytes"])):
        if tensor["offset"] < end:
            raise ValueError(f"its tensor {tensor['name'][:100]} overlaps another one")
        end = tensor["offset"] + tensor["bytes"]
    return found


def _tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    name = clean(str(tensor["name"]), 200)
    ne = [_number(n) for n in tensor["ne"]][:8]
    size = _number(tensor["bytes"])
    # Expert after expert, as long as the last dimension counts them.
    experts = ne[-1] if _EXPERTS.search(name) and len(ne) > 1 else 0
    if not 0 < experts <= _MAX_EXPERTS or size % experts:
        experts = 0
    return {
        "name": name,
        "type": clean(str(tensor["type"]), 50),
        "ne": ne,
        "offset": _number(tensor["offset"]),
        "bytes": size,
        "layer": _layer(name),
        "experts": experts or None,
        "expert_bytes": size // experts if experts else None,
    }


def _layer(name: str) -> int | None:
    layer = layer_of(name)
    return layer if layer is not None and layer <= _MAX_TENSORS else None


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < _MAX_BYTES:
        raise ValueError(f"it holds the number {str(value)[:40]}")
    return value
