"""tools/make_dense_gguf.py: valid blocks, the same bytes again, and an engine that runs them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import gguf
import make_dense_gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from tests.conftest import REPO, Require

PREDICT = 7
SIZE = [
    "--layers", "2", "--embd", "256", "--ff", "512", "--heads", "4", "--kv-heads", "2",
    "--vocab", "512", "--context", "512",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dense") / "tiny.gguf"
    assert make_dense_gguf.main([str(path), *SIZE]) == 0
    return path


def test_an_engine_predicts_as_many_tokens_as_asked_for(require: Require, model: Path) -> None:
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    done = subprocess.run(
        [sys.executable, REPO / "tools/engine.py", model, "--serve", "--context", "512"],
        input="".join(
            json.dumps({"prompt": prompt, "predict": predict}) + "\n"
            for prompt, predict in (("the steam engine, \u00e9\n", PREDICT), ([5, 6, 7], 400))
        ),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    ready, text, tokens = done.stdout.split("\n")[:3]
    assert ready == "ready"
    assert json.loads(text)["timings"]["predicted_n"] == PREDICT
    # Of 400 tokens out of 512 some would be the end of the text, were it not ignored.
    assert json.loads(tokens)["timings"]["predicted_n"] == 400
    assert json.loads(tokens)["timings"]["prompt_n"] == 3


def test_weights_are_finite_and_of_mean_zero(model: Path) -> None:
    kinds = set()
    for tensor in gguf.GGUFReader(model).tensors:
        kinds.add(tensor.tensor_type)
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(values).all(), tensor.name
        if tensor.tensor_type == Type.F32:
            assert (values == 1).all(), tensor.name
        else:
            assert abs(values.mean()) < 0.001, tensor.name
            assert values.std() == pytest.approx(0.02, rel=0.05), tensor.name
    assert kinds == {Type.F32, Type.Q4_K, Type.Q6_K}


def test_the_seed_decides_every_byte(model: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again.gguf", tmp_path / "other.gguf"
    make_dense_gguf.main([str(again), *SIZE])
    make_dense_gguf.main([str(other), *SIZE, "--seed", "2"])
    assert again.read_bytes() == model.read_bytes()
    assert other.read_bytes() != model.read_bytes()


def test_half_of_the_layers_have_q6_k_as_in_the_real_model() -> None:
    kinds = {name: kind for name, kind, _ in make_dense_gguf.tensors(make_dense_gguf.Shape())}
    for name in ("attn_v", "ffn_down"):
        better = [i for i in range(16) if kinds[f"blk.{i}.{name}.weight"] == Type.Q6_K]
        assert better == [0, 1, 4, 7, 10, 13, 14, 15]


@pytest.mark.parametrize("arguments", [["--embd", "300"], ["--heads", "5"], ["--vocab", "100"]])
def test_a_shape_that_no_engine_could_load_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        make_dense_gguf.main([str(tmp_path / "x.gguf"), *arguments])
    assert not list(tmp_path.iterdir())
