"""Reads the header of a GGUF file, which may be hostile, in a process of its own.

    python -I -B gguf_child.py SECONDS BYTES UID GID HEADER < FILE

What it needs is imported first; then it becomes somebody else, limited in time and memory, and
only then looks at the file, which it has been given open: HEADER bytes, and then nothing up to its
size. Prints one line of JSON, of at most so many bytes.
"""

import ctypes
import json
import mmap  # noqa: F401 - numpy imports it late, when nobody may
import os
import resource
import struct
import sys
from typing import Any

import gguf
from gguf import GGUFValueType

_MEMORY = 1 << 30
_NO_NEW_PRIVILEGES = 38
_FACTS = ("general.architecture", "general.name", "general.file_type")
_OF_ARCHITECTURE = ("expert_count", "expert_used_count", "block_count")


class Header(gguf.GGUFReader):
    """The package's reader, but it walks over arrays: a vocabulary takes it 12 s and 700 MB."""

    size = 0
    """Bytes of the header: no array goes on behind it."""

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[Any], list[int], list[GGUFValueType]]:
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        return self._array_size(orig_offs), [], [], [GGUFValueType.ARRAY]

    def _array_size(self, start: int) -> int:
        if self.byte_order != "I":
            raise ValueError("the byte order is another machine's")
        kind, count = struct.unpack_from("<IQ", memoryview(self.data.data), start)
        at = start + 12
        scalar = self.gguf_scalar_to_np.get(GGUFValueType(kind))
        if scalar is not None:
            at += count * scalar().itemsize
        elif kind == GGUFValueType.STRING:
            view = memoryview(self.data.data)
            length = struct.Struct("<Q").unpack_from
            for _ in range(count):
                at += 8 + length(view, at)[0]
                if at > self.size:
                    break
        else:
            raise ValueError("an array of arrays")
        if at > self.size:
            raise ValueError("an array is longer than the header")
        return at - start


def _confine(seconds: int, answer: int, uid: int, gid: int) -> None:
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (answer, answer))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError("prctl")


def _describe() -> dict[str, Any]:
    header = Header(sys.stdin.buffer)  # type: ignore[arg-type]
    facts: dict[str, Any] = {}

    def add(key: str, name: str) -> None:
        field = header.get_field(key)
        if field is not None and field.types != [GGUFValueType.ARRAY]:
            facts[name] = field.contents()

    for key in _FACTS:
        add(key, key.removeprefix("general."))
    for key in _OF_ARCHITECTURE:
        add(f"{facts.get('architecture')}.{key}", key)
    facts["tensors"] = [
        {
            "name": tensor.name,
            "type": tensor.tensor_type.name,
            "ne": tensor.shape.tolist(),
            "offset": int(tensor.data_offset),
            "bytes": int(tensor.n_bytes),
        }
        for tensor in header.tensors
    ]
    return facts


def main() -> int:
    """0 when it could say something, of the header or of why not."""
    seconds, size, uid, gid, Header.size = map(int, sys.argv[1:6])
    _confine(seconds, size, uid, gid)
    try:
        answer = _describe()
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
