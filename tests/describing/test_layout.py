"""The layout of a real engine, by experiment, and the cache that remembers it."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

import profinfer.describing.describe as layout_module
import profinfer.describing.search as search_module
from profinfer.binaries.elf import Elf
from profinfer.describing.describe import Layout, TypeInfo, describe
from profinfer.describing.sandbox import Answer, Request
from profinfer.describing.sandbox import ask as ask_child
from profinfer.errors import ProbeError, TargetError


@pytest.fixture(scope="module")
def found(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return describe([engine], uid=os.geteuid(), gid=os.getegid())


def test_known_facts(found: Layout) -> None:
    """What is known of the pinned wheel (ggml 0.26.0): another one needs its own facts here."""
    assert (found.version or "").startswith("0.26.0")
    t = found.tensor
    assert (t.type, t.buffer, t.ne, t.nb, t.op, t.op_params) == (0, 8, 16, 48, 80, 84)
    assert (t.flags, t.src, t.view_src, t.view_offs, t.data, t.name) == (
        148, 152, 232, 240, 248, 256,
    )  # fmt: skip
    assert (t.max_src, t.name_size, t.op_params_size, t.size) == (10, 64, 64, 336)
    assert found.cgraph.nodes == 16
    assert found.cgraph.n_nodes == 4
    assert found.backend is not None
    assert found.backend.guid == 0
    assert found.backend.get_name == 8
    assert found.backend.graph_compute == 104
    assert found.backend.device == 136
    assert (found.backend.cpu_guid or "").startswith("aa67c743")
    assert found.notes == ()


def test_names(found: Layout) -> None:
    assert found.ops[0] == "NONE"
    assert found.ops[found.ops.index("MUL_MAT") + 1] == "MUL_MAT_ID"
    assert len(set(found.ops)) == len(found.ops) > 60
    assert {"ROPE", "SOFT_MAX", "FLASH_ATTN_EXT", "GLU", "UNARY"} <= set(found.ops)
    assert {"SILU", "GELU", "RELU"} <= set(found.unary_ops)
    assert not set(found.unary_ops) & set(found.glu_ops)
    assert {"REGLU", "SWIGLU"} <= set(found.glu_ops)
    types = {t.name: t for t in found.types if t}
    assert types["f32"] == TypeInfo("f32", 1, 4)
    assert types["q8_1"].block_size == types["q8_0"].block_size == 32
    assert types["q4_K"] == TypeInfo("q4_K", 256, 144)
    assert None in found.types


def test_tensor_agrees_with_dwarf(engine: Path, found: Layout) -> None:
    """The engine's own debug information is an independent witness."""
    with engine.open("rb") as stream:
        file = ELFFile(stream)
        members = _members(file.get_dwarf_info(), b"ggml_tensor")
    assert members, "the pinned wheel has debug information of ggml_tensor"
    for field in ("type", "buffer", "ne", "nb", "op", "op_params", "flags", "src", "view_src",
                  "view_offs", "data", "name"):  # fmt: skip
        assert getattr(found.tensor, field) == members[field], field
    assert found.tensor.size == members[""]


def _members(dwarf: Any, name: bytes) -> dict[str, int]:
    for unit in dwarf.iter_CUs():
        source = unit.get_top_DIE().attributes.get("DW_AT_name")
        if source is None or (b"ggml" not in source.value and b"llama" not in source.value):
            continue
        for die in unit.iter_DIEs():
            attributes = die.attributes
            if die.tag != "DW_TAG_structure_type" or "DW_AT_byte_size" not in attributes:
                continue
            if "DW_AT_name" in attributes and attributes["DW_AT_name"].value == name:
                children = [c.attributes for c in die.iter_children()]
                found = {
                    c["DW_AT_name"].value.decode(): c["DW_AT_data_member_location"].value
                    for c in children
                    if "DW_AT_data_member_location" in c
                }
                return {**found, "": attributes["DW_AT_byte_size"].value}
    return {}


def test_ubatch_is_complete(found: Layout) -> None:
    assert found.ubatch is not None
    offsets = dataclasses.asdict(found.ubatch)
    assert offsets.pop("arg") == 1
    assert all(value is not None for value in offsets.values())
    assert len(set(offsets.values())) == len(offsets)
    assert all(offsets[name] % 8 == 0 for name in ("pos", "seq_id", "n_seq_id", "output", "token"))


def test_json_round_trip(found: Layout) -> None:
    assert Layout.from_json(found.to_json()) == found
    assert Layout.from_json(found.to_json().encode()) == found


@pytest.mark.parametrize(
    "fields",
    [
        {"name": 504, "name_size": 8, "size": 512},
        {"op_params": 508, "op_params_size": 4, "size": 512},
        {"name": 480, "size": 512},
        {"ne": -8},
        {"ne": True},
        {"ne": 16.0},
        {"size": 1 << 40},
        {"src": 4096, "size": 4096},
    ],
)
def test_fields_that_are_not_in_a_tensor(fields: dict[str, Any], found: Layout) -> None:
    """The handlers would read what lies behind it, or could not be loaded."""
    data = json.loads(found.to_json())
    data["tensor"] |= fields
    with pytest.raises(ProbeError, match="the layout data is not usable: "):
        Layout.from_dict(data)


def test_cache(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    who: Any = {"uid": os.geteuid(), "gid": os.getegid()}
    first = describe([engine], **who)
    folder = tmp_path / "cache/profinfer/layout"
    (kept,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with monkeypatch.context() as patch:
        patch.setattr(search_module, "ask", lambda *_, **__: pytest.fail("asked again"))
        assert describe([engine], **who) == first
    whole = kept.read_bytes()
    for damage in (b"", whole[:100], whole.replace(b'"ne":16', b'"ne":48'), b"[" * 100_000,
                   whole.replace(b'"format":1', b'"format":0'), b'{"format":1}'):  # fmt: skip
        kept.write_bytes(damage)
        assert describe([engine], **who) == first
        assert kept.read_bytes() == whole
    kept.unlink()
    kept.symlink_to("/etc/hostname")
    assert describe([engine], **who) == first


def test_cache_that_is_not_private_is_not_used(engine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache/profinfer/layout"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    describe([engine], uid=os.geteuid(), gid=os.getegid())
    assert list(folder.iterdir()) == []


def test_cache_is_per_owner(engine: Path) -> None:
    """A build id is easily forged: what one user's library said is not told of another's."""
    elves = [Elf(engine)]
    keys = {layout_module._cache_key(elves, *of) for of in ((0,), (1000,), (1000, "1:2"))}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("failure", "changed"),
    [
        ("it was ended by SIGSEGV", None),
        (None, {"error": "the tiny model was refused"}),
        (None, {"ubatch": {"arg": 1, "n_tokens": 1 << 40}, "notes": ["odd"]}),
        (None, {"ubatch": [1], "notes": "x"}),
        ("no answer within 9 s", {"notes": []}),
    ],
)
def test_failure_of_a_later_experiment_keeps_the_earlier(
    failure: str | None,
    changed: dict[str, Any] | None,
    engine: Path,
    found: Layout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    final = failure is None or "SIG" in failure
    monkeypatch.setattr(search_module, "ask", _instead("ubatch", failure, final, changed or {}))
    layout = describe([engine], uid=os.geteuid(), gid=os.getegid())
    assert layout.ubatch is None
    assert any(note.startswith("ubatch: ") for note in layout.notes)
    assert (layout.tensor, layout.cgraph, layout.ops) == (found.tensor, found.cgraph, found.ops)
    assert layout.backend == found.backend
    # What may turn out otherwise next time is not kept.
    assert len(list((tmp_path / "cache/profinfer/layout").iterdir())) == final


def _instead(
    missing: str, failure: str | None, final: bool, changed: dict[str, Any]
) -> Callable[..., Answer]:
    """Asks, and gives something else for an answer: less by what is missing, and changed."""

    def ask(request: Request, **rest: Any) -> Answer:
        data = ask_child(request, **rest).data
        assert data is not None
        return Answer({**{k: v for k, v in data.items() if k != missing}, **changed},
                      failure, final)  # fmt: skip

    return ask


def test_crash_in_a_later_part_keeps_the_earlier(
    engine: Path, found: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = "it was ended by SIGILL"
    monkeypatch.setattr(search_module, "ask", _instead("backend", failure, True, {}))
    layout = describe([engine], uid=os.geteuid(), gid=os.getegid())
    assert layout.backend is None
    assert layout.tensor == found.tensor
    assert layout.notes == ("backend: it was ended by SIGILL",)


def test_library_without_ggml(engine: Path) -> None:
    other = next(engine.parent.parent.glob("numpy/_core/_multiarray_umath*.so"))
    with pytest.raises(ProbeError, match=r"_multiarray_umath.* no ggml_init"):
        describe([other], uid=os.geteuid(), gid=os.getegid())
    with pytest.raises(ProbeError):
        describe([], uid=0, gid=0)


def test_foreign_processor(engine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "foreign.so"
    data = bytearray(engine.read_bytes()[:4096])
    data[18:20] = (243).to_bytes(2, "little")
    data[40:48] = bytes(8)
    copy.write_bytes(data)
    with pytest.raises(TargetError, match=r"foreign\.so is for riscv64"):
        describe([copy], uid=os.geteuid(), gid=os.getegid())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_untrusted_json(data: st.DataObject, found: Layout) -> None:
    """Whatever one value is replaced with, the result is a Layout or a ProbeError."""
    document: dict[str, Any] = json.loads(found.to_json())
    target: Any = document
    while isinstance(target, dict) or (isinstance(target, list) and target):
        keys = list(target) if isinstance(target, dict) else range(len(target))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(target[key], dict | list) or data.draw(st.booleans()):
            target[key] = data.draw(_JSON)
            break
        target = target[key]
    try:
        layout = Layout.from_json(json.dumps(document))
    except ProbeError:
        return
    assert all(" " <= c <= "~" for note in layout.notes for c in note)
    assert 0 <= layout.tensor.ne <= layout.tensor.size - 32
