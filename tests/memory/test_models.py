"""GGUF headers, honest and hostile: a table of tensors, or a sentence; never harm."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from profinfer.converting import models
from profinfer.converting.models import describe_model
from profinfer.errors import TraceError

STRING, ARRAY, UINT8, UINT32 = 8, 9, 0, 4


HEADER = 64 << 20
"""What a recorder takes at most."""


def frame(header: bytes, **model: object) -> bytes:
    """A MODEL frame as the recorder writes it."""
    said = {
        "path": "/m.gguf", "device": 1, "inode": 2, "size": len(header), "overlaid": False,
        "problem": None, **model,
    }  # fmt: skip
    text = json.dumps(said).encode()
    return struct.pack("<I", len(text)) + text + header


def described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        header = file.read(HEADER)
    return describe_model(frame(header, path=str(path), size=path.stat().st_size))


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(tensors: int, pairs: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + rest


def array(kind: int, count: int, rest: bytes = b"") -> bytes:
    return header(0, 1, text(b"a") + struct.pack("<IIQ", ARRAY, kind, count) + rest)


def tensor(name: bytes, *ne: int, kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, kind, offset)


def test_tensors_are_those_that_the_package_reads(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_expert_count(6)
    writer.add_expert_used_count(2)
    writer.add_token_list([f"word {i}" for i in range(1000)])
    writer.add_token_scores([0.5] * 1000)
    writer.add_tensor("blk.3.ffn_down_exps.weight", np.ones((6, 8, 32), np.float32))
    writer.add_tensor("blk.3.ffn_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = described(path)
    tensors = found.pop("tensors")
    assert found == {
        "device": 1, "inode": 2, "path": str(path), "overlaid": False, "error": None,
        "architecture": "llama", "expert_count": 6, "expert_used_count": 2, "seen": True,
        "direct": False,
    }  # fmt: skip
    reader = gguf.GGUFReader(path)
    assert [(t["name"], t["type"], t["ne"], t["offset"], t["bytes"]) for t in tensors] == [
        (t.name, t.tensor_type.name, t.shape.tolist(), t.data_offset, t.n_bytes)
        for t in reader.tensors
    ]
    assert [(t["layer"], t["experts"], t["expert_bytes"]) for t in tensors] == [
        (3, 6, 1024), (3, None, None),
    ]  # fmt: skip


HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "magic only": lambda: b"GGUF",
    "no magic": lambda: b"\x7fELF" + bytes(100),
    "version": lambda: b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    "other byte order": lambda: b"GGUF"
    + struct.pack(">IQQQBIIQ", 3, 0, 1, 1, 97, ARRAY, 0, 9)
    + bytes(9),
    "pairs": lambda: header(0, 1 << 63, bytes(200)),
    "tensors": lambda: header(1 << 63, 0, bytes(200)),
    "long key": lambda: header(0, 1, struct.pack("<Q", (1 << 64) - 1) + bytes(50)),
    "long array": lambda: array(UINT8, 1 << 62),
    "many strings": lambda: array(STRING, 1 << 62, bytes(800)),
    "long string": lambda: array(STRING, 1, struct.pack("<Q", 1 << 62)),
    "array of arrays": lambda: array(ARRAY, 1, struct.pack("<IQ", ARRAY, 1) * 4000),
    "unknown type": lambda: array(77, 1),
    "tensor beyond the end": lambda: header(1, 0, tensor(b"t", 1 << 40)),
    "dimensions that overflow": lambda: header(1, 0, tensor(b"t", 1 << 33, 1 << 33, 1 << 33)),
    "many dimensions": lambda: header(1, 0, text(b"t") + struct.pack("<I", (1 << 32) - 1)),
    "unknown tensor type": lambda: header(1, 0, tensor(b"t", 4, kind=999) + bytes(100)),
    "overlapping tensors": lambda: header(
        2, 0, tensor(b"a", 64) + tensor(b"b", 64, offset=128) + bytes(1000)
    ),
    "random": lambda: header(3, 3, np.random.default_rng(1).bytes(5000)),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_header_is_a_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(HOSTILE[name]())
    found = described(path)
    assert found["error"]
    assert found["error"].isprintable()
    assert found["tensors"] == []


def test_a_header_that_takes_forever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 300_000  # some 10 s
    values = b"".join(text(b"%07d" % i) + struct.pack("<IB", UINT8, 0) for i in range(count))
    monkeypatch.setattr(models, "_SECONDS", 1)
    began = time.monotonic()
    found = describe_model(frame(header(0, count, values), size=1 << 40))
    assert "status -" in found["error"]
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("size", [-1, 0, 30, 1 << 62, 1 << 63, 1 << 200])
def test_a_size_that_cannot_be_is_a_sentence(size: int) -> None:
    header = array(UINT8, 8, bytes(8))
    assert describe_model(frame(header))["error"] is None
    found = describe_model(frame(header, size=size))
    assert found["error"]
    assert found["tensors"] == []


def test_an_array_does_not_go_on_behind_the_header() -> None:
    header = array(STRING, 1 << 30)
    assert "longer than the header" in describe_model(frame(header, size=1 << 40))["error"]


@pytest.mark.parametrize(
    "damaged",
    [
        b"", b"\1\0\0", b"\xff\xff\xff\xff{}", struct.pack("<I", 2) + b"{}",
        struct.pack("<I", 4) + b"null", frame(b"", inode="x"), frame(b"", size=None),
    ],
)  # fmt: skip
def test_a_damaged_frame_is_said(damaged: bytes) -> None:
    with pytest.raises(TraceError, match="MODEL frame of the capture is damaged"):
        describe_model(damaged)


def test_a_hostile_path_cannot_steer_a_terminal() -> None:
    assert describe_model(frame(b"", path="/\x1b[31m\u202e.gguf"))["path"] == "/?[31m?.gguf"


def test_an_answer_that_is_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(header(1, 0, tensor(b"t" * 5000, 4) + bytes(100)))
    assert described(path)["error"] is None
    monkeypatch.setattr(models, "_MAX_ANSWER", 4096)
    assert "ended with status" in described(path)["error"]


def test_texts_of_a_header_are_clean_and_numbers_bounded(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    rest = tensor(b"blk.1.ffn_up_exps.\x1b[31m", 4, 1 << 20) + bytes((16 << 20) + 64)
    path.write_bytes(header(1, 0, rest))
    [found] = described(path)["tensors"]
    assert found["name"].isprintable()
    assert found["experts"] is None


@pytest.mark.parametrize(
    "name", [b"a\0b", b"'; DROP TABLE slice; --", b"<script>alert(1)</script>", b'"', b"\xff\xfe"]
)
def test_a_hostile_name_is_only_a_name(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(header(1, 0, tensor(b"blk.99999999999999999999." + name, 4) + bytes(100)))
    found = described(path)
    if found["error"] is None:  # the package refuses what is not UTF-8
        [one] = found["tensors"]
        assert one["name"].isprintable()
        assert one["layer"] is None
    else:
        assert "utf-8" in found["error"]


def test_a_model_that_is_not_held_open_is_named() -> None:
    found = describe_model(frame(b"", problem="Permission denied"))
    assert (found["path"], found["error"], found["tensors"]) == ("/m.gguf", "Permission denied", [])


def test_a_part_of_a_split_model_has_its_own_tensors(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama", split_max_tensors=2)
    for i in range(5):
        writer.add_tensor(f"blk.{i}.ffn_up.weight", np.ones((8, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("m-*-of-00003.gguf"))
    found = [described(part) for part in parts]
    assert [m["error"] for m in found] == [None] * 3
    assert [t["layer"] for m in found for t in m["tensors"]] == [0, 1, 2, 3, 4]
    assert {t["bytes"] for m in found for t in m["tensors"]} == {1024}


def test_the_reader_is_nobody_and_may_open_nothing(tmp_path: Path) -> None:
    # The file is root's alone: only the descriptor that it is given leads there.
    path = tmp_path / "m.gguf"
    path.write_bytes(header(1, 0, tensor(b"t", 4) + bytes(100)))
    path.chmod(0o600)
    assert [t["name"] for t in described(path)["tensors"]] == ["t"]
