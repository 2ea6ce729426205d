"""tools/make_moe_gguf.py: the same bytes again; shapes that cannot be are refused."""

from __future__ import annotations

from pathlib import Path

import gguf
import make_moe_gguf
import numpy as np
import pytest

SIZE = ["--layers", "1", "--embd", "64", "--experts", "8", "--used", "2", "--width", "32",
        "--vocab", "512"]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "architecture"), [([], "llama"), (["--shared", "1"], "qwen2moe")]
)
def test_the_same_arguments_make_the_same_bytes(
    tmp_path: Path, options: list[str], architecture: str
) -> None:
    paths = [tmp_path / name for name in ("a.gguf", "b.gguf", "c.gguf")]
    for path, seed in zip(paths, ("1", "1", "2"), strict=True):
        assert make_moe_gguf.main([str(path), *SIZE, *options, "--seed", seed]) == 0
    same, again, other = (path.read_bytes() for path in paths)
    assert same == again != other
    reader = gguf.GGUFReader(paths[0])
    fields = reader.fields
    assert bytes(fields["general.architecture"].parts[-1]).decode() == architecture
    assert int(fields[f"{architecture}.expert_count"].parts[-1][0]) == 8
    names = {tensor.name for tensor in reader.tensors}
    assert ("blk.0.ffn_up_shexp.weight" in names) is bool(options)
    for tensor in reader.tensors:
        assert np.isfinite(gguf.dequantize(tensor.data, tensor.tensor_type)).all(), tensor.name


@pytest.mark.parametrize(
    "options", [["--used", "61"], ["--embd", "100"], ["--width", "33"], ["--heads", "5"]]
)
def test_what_no_engine_could_load_is_refused(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit, match="--"):
        make_moe_gguf.main([str(tmp_path / "m.gguf"), *options])
    assert not list(tmp_path.iterdir())
