"""Known models, made small and run by a real engine: what they are can be read off the picture."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import make_dense_gguf
import pytest

from profinfer.drawing.dag import layer_dot, layer_svg
from profinfer.drawing.shades import SCALES
from profinfer.trace_processor import Session, open_trace
from tests.conftest import require
from tests.drawing.pictures import Picture, read, texts
from tests.recording.helpers import record
from tests.sql.harness import ask

LAYERS = 4
SIZE = [
    "--layers", str(LAYERS), "--embd", "256", "--ff", "512", "--heads", "4", "--kv-heads", "2",
    "--vocab", "512", "--context", "512",
]  # fmt: skip
VIEW = re.compile("VIEW|RESHAPE|PERMUTE|TRANSPOSE")
MODELS: dict[str, list[str]] = {
    "llama-3.2-1b": [],
    "qwen-2.5-1.5b": [],
    "gemma-2-2b": ["--head-dim", "128"],
}


Recorded = Callable[[str], Session]


@pytest.fixture(scope="module")
def recorded(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """What was recorded of a model, by its name; each once."""
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    require("root, which recording needs", os.geteuid() == 0)
    folder = tmp_path_factory.mktemp("known")
    with ExitStack() as stack:

        @functools.cache
        def of(name: str) -> Session:
            model, trace = folder / f"{name}.gguf", folder / f"{name}.pftrace"
            make_dense_gguf.main([str(model), "--like", name, *SIZE, *MODELS[name]])
            # Without flash attention each part of attention is an operator of its own.
            record(
                trace,
                ["--level", "barrier"],
                [sys.executable, repo / "tools/engine.py", model, "--prompt", "a b c d",
                 "--predict", 5, "--context", 256, "--flash", "off"],
            )  # fmt: skip
            return stack.enter_context(open_trace(trace))

        yield of


@pytest.fixture(scope="module")
def drawn(recorded: Recorded) -> Callable[[str], Picture]:
    """The picture of a model's layers folded."""
    return functools.cache(lambda name: read(layer_dot(recorded(name))))


def chain(picture: Picture, begin: str, *then: str) -> None:
    """Asserts that each of these follows from the one before, views aside."""
    here = picture.find(begin)
    for text in then:
        following = [t for s, t in picture.edges if s == here]
        while not any(picture.nodes[t][0] == text for t in following):
            views = [t for t in following if VIEW.match(picture.nodes[t][0])]
            assert views, f"{text} does not follow from {picture.nodes[here][0]}"
            following = [t for s, t in picture.edges if s in views]
        [here] = [t for t in set(following) if picture.nodes[t][0] == text]


def test_llama_has_rotations_by_its_own_frequencies_and_two_residuals(
    drawn: Callable[[str], Picture],
) -> None:
    found = drawn("llama-3.2-1b")
    assert "layers 0-2 (3 alike)" in found.title
    # Only rows whose logits are asked for.
    assert "not drawn: layer 3: +1 GET_ROWS" in found.title
    for part in ("Qcur", "Kcur"):
        chain(found, f"MUL_MAT  {part}", f"ROPE  {part}")
        assert found.sources(found.find(f"ROPE  {part}")) >= {"inp_pos", "rope_freqs"}
    chain(found, "MUL_MAT  Kcur", "ROPE  Kcur", "SET_ROWS  cache_k", "cache_k", "MUL_MAT  kq",
          "SOFT_MAX  kq_soft_max", "MUL_MAT  kqv")  # fmt: skip
    chain(found, "MUL_MAT  Vcur", "SET_ROWS  cache_v", "cache_v", "MUL_MAT  kqv")
    chain(found, "MUL_MAT  ffn_gate", "SWIGLU  ffn_swiglu", "MUL_MAT  ffn_out", "ADD  l_out")
    layer = found.boxes["layers 0-2"]
    assert sorted(found.nodes[n][0] for n in found.all("ADD.*")) == ["ADD  ffn_inp", "ADD  l_out"]
    assert len(set(found.all("RMS_NORM.*")) & layer) == 2
    assert found.nodes[found.find("attn_q")][1] == "q4_K  256\N{MULTIPLICATION SIGN}256"
    assert found.find("RESHAPE  Qcur") in found.boxes["attention"]
    # Outside layers.
    assert found.sources(found.find("GET_ROWS  embd")) == {"token_embd", "inp_tokens"}
    chain(found, "RMS_NORM+MUL  result_norm", "MUL_MAT  result_output")
    assert "token_embd" in found.sources(found.find("MUL_MAT  result_output"))


def test_qwen_has_three_additions_after_q_k_and_v(drawn: Callable[[str], Picture]) -> None:
    found = drawn("qwen-2.5-1.5b")
    for part in "QKV":
        chain(found, f"MUL_MAT  {part}cur", f"ADD  {part}cur")
        bias = f"attn_{part.lower()}.bias"
        assert found.sources(found.find(f"ADD  {part}cur")) == {f"MUL_MAT  {part}cur", bias}
    attention = found.boxes["attention"]
    assert len(set(found.all("ADD.*")) & attention) == 3
    assert len(found.all("ADD.*")) == 5
    assert not found.all("TANH.*")


def test_gemma_2_has_further_norms_and_soft_caps(
    recorded: Recorded, drawn: Callable[[str], Picture]
) -> None:
    found = drawn("gemma-2-2b")
    layer = found.boxes["layers 0, 2"]
    norms = {found.nodes[n][0] for n in set(found.all("RMS_NORM.*")) & layer}
    assert norms == {
        f"RMS_NORM+MUL  {name}"
        for name in ("attn_norm", "attn_post_norm", "ffn_norm", "ffn_post_norm")
    }
    chain(found, "MUL_MAT  attn_output", "RMS_NORM+MUL  attn_post_norm", "ADD  sa_out")
    chain(found, "MUL_MAT  ffn_out", "RMS_NORM+MUL  ffn_post_norm", "ADD  l_out")
    # Soft caps: of the scores, and of the logits.
    chain(found, "MUL_MAT  kq", "SCALE  kq_scaled_1", "TANH  kq_tanh", "SCALE  kq_scaled_2",
          "SOFT_MAX  kq_soft_max")  # fmt: skip
    chain(found, "MUL_MAT  token_embd", "SCALE  token_embd", "TANH  token_embd",
          "SCALE  result_output")  # fmt: skip
    chain(found, "GET_ROWS  embd", "SCALE  inp_scaled", "RMS_NORM+MUL  attn_norm")
    # Every second layer's window is as long as the context: it has a mask of its own.
    assert "not drawn: layer 1: reads another attn_inp_k_idxs, another attn_inp_v_idxs, another " \
        "attn_inp_kq_mask" in found.title  # fmt: skip
    alone = read(layer_dot(recorded("gemma-2-2b"), layer=1))
    assert {lines[0] for lines in alone.nodes.values()} >= {"TANH  kq_tanh", "attn_inp_kq_mask"}


@pytest.mark.parametrize("name", MODELS)
def test_every_operator_has_its_numbers(recorded: Recorded, name: str) -> None:
    session = recorded(name)
    without = ask(
        session,
        "INCLUDE PERFETTO MODULE profinfer.graphs.layers; SELECT DISTINCT d.phase"
        " FROM profinfer_dag_operator AS o JOIN profinfer_dag AS d USING (dag_id)"
        " WHERE d.is_main AND NOT o.runs AND o.incomplete",
    )
    unseen = {phase for (phase,) in without}
    for phase in ("prefill", "decode"):
        for colour in SCALES:
            shown, tips = texts(layer_svg(session, colour=colour, phase=phase))
            # Some virtual machines miss switches: what one may be in has no time, and says so.
            missing = [text for text in shown if "no run" in text and "not drawn" not in text]
            assert bool(missing) is (phase in unseen)
            assert any(text.startswith(f"{phase}: ") for text in shown)
            assert any(tip.startswith("bandwidth, at least: ") for tip in tips)
    # Each ran once in each micro-batch.
    assert ask(
        session,
        "SELECT DISTINCT d.phase, d.runs BETWEEN o.runs AND o.runs + o.incomplete"
        " FROM profinfer_dag_operator AS o"
        " JOIN profinfer_dag AS d USING (dag_id) ORDER BY 1",
    ) == [("decode", 1), ("prefill", 1)]
