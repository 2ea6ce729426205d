"""The graph of a layer, drawn: what is in it, in which colour, and whatever names are in it."""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path

import pytest

from profinfer.drawing import graphviz
from profinfer.drawing.dag import layer_dot, layer_svg
from profinfer.drawing.graphviz import clean, quoted
from profinfer.drawing.shades import SCALES, UNKNOWN, VIEW, Colour
from profinfer.errors import KernelError, QueryError
from tests.captures import MAIN, Capture, T, convert
from tests.commands.command import Ran, profinfer
from tests.drawing.pictures import read, texts
from tests.sql.harness import opened
from tests.sql.test_layers import WIDE, layer, model, run

NAMES = [
    "</script><b>x", 'a"b', "a\\", "\\N\\G\\l", "a\nb", "\u202eabc\u200f", "<b>x</b>", "<<b>x</b>>",
    "&lt;&#x202e;&amp;lt;", "<!-- x -->", "]]>", "\033[31m\x07", 'a\\"];x[label="', "{a|b}",
    "a;}//", "x" * 10_000,
]  # fmt: skip


def four() -> Capture:
    """Four layers, the last of which has another operator; two runs of decode."""
    capture = Capture()
    layers = model([layer(0), layer(1, type="f16"), layer(2), layer(3, more=True)])
    run(capture, 0, layers, us=5)
    run(capture, 1000, layers, position=1)
    run(capture, 2000, layers, position=2)
    return capture


def test_layers_that_are_alike_are_drawn_once() -> None:
    with opened(four()) as session:
        found = read(layer_dot(session))
    assert found.title.split("\\n") == [
        "decode: 2 runs of 1 token",
        "layers 0-2 (3 alike): median (least - most)",
        "not drawn: layer 3: +1 MUL",
    ]
    assert found.nodes[found.find("MUL_MAT  Qcur")] == [
        "MUL_MAT  Qcur", "256", "20 µs (10 µs - 30 µs)",
    ]  # fmt: skip
    assert found.nodes[found.find("attn_q")] == [
        "attn_q",
        "q4_K, f16  256\N{MULTIPLICATION SIGN}256",
    ]
    assert found.nodes[found.find("VIEW  Qcur")] == ["VIEW  Qcur", "256"]
    assert found.boxes["attention"] == {
        found.find(text)
        for text in ("attn_norm", "attn_q", "RMS_NORM+MUL  attn_norm", "MUL_MAT  Qcur",
                     "VIEW  Qcur", "SOFT_MAX  kq")
    }  # fmt: skip
    assert found.find("ADD  l_out") in found.boxes["layers 0-2"]
    assert found.sources(found.find("ADD  l_out")) == {
        "SOFT_MAX  kq",
        "MUL  inp_embd",
        "the layer before",
    }
    assert found.targets(found.find("ADD  l_out")) == {"the next layer"}
    assert found.sources(found.find("MUL_MAT  result_output")) == {"output", "the next layer"}
    # What only the layer that is not drawn has.
    assert not found.all(".*kq_more")


def test_one_layer_is_drawn_alone() -> None:
    with opened(four()) as session:
        found = read(layer_dot(session, layer=3))
        with pytest.raises(QueryError, match="no layer 4") as caught:
            layer_dot(session, layer=4)
    assert caught.value.hint == "its layers: 0-2, 3"
    assert found.nodes[found.find("MUL  kq_more")] == ["MUL  kq_more", "256", "40 µs"]
    assert found.sources(found.find("ADD  l_out")) == {"MUL  kq_more", "the layer before"}
    assert found.targets(found.find("ADD  l_out")) == {"the next layer"}
    assert not found.all(".*result_output")


def fills(dot: str) -> dict[str, str]:
    """Colours by the first line of each node."""
    return dict(re.findall(r'^\w+ \[label="(.+?)(?:\\n.*?)?", fillcolor="(#\w+)"', dot, re.M))


@pytest.mark.parametrize("colour", SCALES)
def test_each_colour_is_of_its_number(colour: Colour) -> None:
    with opened(four()) as session:
        found = fills(layer_dot(session, colour=colour))
    ramp = SCALES[colour].ramp
    assert found["VIEW  Qcur"] == VIEW
    # The most there is of it in a layer; waiting ends at 100 %.
    assert found["MUL_MAT  Qcur"] == {"time": ramp[2], "bandwidth": ramp[2]}.get(
        colour, SCALES["stall"].shade(0.4, 1)[0]
    )
    assert UNKNOWN not in found.values()


def test_what_is_not_known_is_grey() -> None:
    capture = Capture("operator")
    run(capture, 0, model([layer(0)]))
    capture.records = [row for row in capture.records if row.kind != 3]
    with opened(capture) as session:
        dot = layer_dot(session, colour="stall")
    found = fills(dot)
    assert found["MUL_MAT  Qcur"] == found["SOFT_MAX  kq"] == UNKNOWN
    assert "not known" in read(dot).nodes[read(dot).find("MUL_MAT  Qcur")][2]


def test_ink_stands_out_on_every_shade() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(
            weight * (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4)
            for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
        )

    for scale in SCALES.values():
        for i in range(101):
            fill, ink = map(luminance, scale.shade(i, 100))
            assert (max(fill, ink) + 0.05) / (min(fill, ink) + 0.05) >= 4.3, (scale.title, i)


def test_prefill_and_decode_are_different_graphs() -> None:
    with opened(four()) as session:
        assert "prefill: 1 run of 1 token" in layer_dot(session, phase="prefill")
        with pytest.raises(QueryError, match="no whole graph of phase encode") as caught:
            layer_dot(session, phase="encode")
        assert caught.value.hint == "it has: decode, prefill"


def test_a_trace_without_graphs_has_no_picture() -> None:
    with opened(Capture()) as session, pytest.raises(QueryError, match="no graph"):
        layer_svg(session)


def test_of_what_is_in_no_layer_a_hundred_nodes_are_drawn() -> None:
    capture = Capture()
    nodes = [T("inp", ne=WIDE), T("n0", "ADD", ("inp", "inp"), ne=WIDE)]
    nodes += [T(f"n{i}", "ADD", (f"n{i - 1}", "inp"), ne=WIDE) for i in range(1, 130)]
    nodes += [T("unused", "MUL", ("inp", "inp"), ne=WIDE)]
    capture.graph(capture.structure(0, nodes), 10_000, 20_000, {MAIN: [("n129", 10_100)]})
    with opened(capture) as session:
        found = read(layer_dot(session))
    assert len(found.all("ADD .*")) == 100
    assert "not drawn: 30 further nodes outside layers" in found.title
    assert "not drawn: 1 node of which no run was seen" in found.title


def test_what_has_no_elements_is_not_missing() -> None:
    capture = Capture()
    weight = T("blk.0.ffn_up.weight", ne=(256, 256, 1, 1))
    nodes = [weight, T("inp", ne=WIDE), T("ffn_up-0", "MUL_MAT", (weight.name, "inp"), ne=WIDE)]
    nodes += [T("ffn_out-0", "MUL", ("ffn_up-0", "ffn_up-0"), ne=(256, 0, 1, 1))]
    nodes += [T("l_out-0", "ADD", ("ffn_up-0", "ffn_up-0"), ne=WIDE)]
    capture.graph(capture.structure(0, nodes), 10_000, 20_000, {MAIN: [("ffn_up-0", 10_100)]})
    with opened(capture) as session:
        found = read(layer_dot(session))
    said = {lines[0]: lines[-1] for lines in found.nodes.values()}
    assert said["MUL  ffn_out"] == "nothing to compute"
    assert said["ADD  l_out"] == "no run seen"


# ---- Names


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is(name: str) -> None:
    dot = f"digraph dag {{ a [label={quoted(name, 'second')}] }}"
    assert texts(graphviz.svg(dot, {"a": f"{clean(name)}\nmore"})) == (
        {clean(name), "second"},
        {clean(name), "more"},
    )
    assert read(dot).nodes == {"a": [clean(name), "second"]}
    assert clean(name).isprintable()


def test_whatever_tensors_are_called() -> None:
    names = [name[:40] for name in NAMES]
    nodes = [T("inp", ne=WIDE)]
    for name in names:
        weight, computed = f"blk.0.{name}.weight", f"{name}-0"
        nodes += [
            T(weight, ne=(256, 256, 1, 1)), T(computed, "MUL_MAT", (weight, "inp"), ne=WIDE),
            T(f"{name} (view)", "VIEW", (computed,), ne=WIDE, view=computed),
        ]  # fmt: skip
    capture = Capture()
    operators = [(f"{name}-0", 10_100 + 100 * i) for i, name in enumerate(names)]
    capture.graph(capture.structure(0, nodes), 10_000, 50_000, {MAIN: operators})
    with opened(capture) as session:
        shown, tips = texts(layer_svg(session))
        found = read(layer_dot(session))
    for name in names:
        assert f"MUL_MAT {clean(f'{name}-0')}" in tips
        assert f"NONE {clean(f'blk.0.{name}.weight')}" in tips
    assert shown >= {lines[0] for lines in found.nodes.values()}
    assert len(found.all("MUL_MAT.*")) == len(names)


# ---- The command


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(four().frames(), tmp_path_factory.mktemp("dag") / "t.pftrace")


def test_the_command_writes_what_is_asked_for(trace: Path, tmp_path: Path) -> None:
    def dag(*args: object) -> Ran:
        return profinfer("dag", trace, *args, cwd=tmp_path)

    done = dag("-o", "dag.svg", "--colour", "stall", "--phase", "prefill")
    assert (done.code, done.out, done.err) == (0, "", "")
    picture = (tmp_path / "dag.svg").read_text()
    assert picture.startswith("<svg ")
    assert any("prefill" in text for text in texts(picture)[0])
    again = dag("-o", "dag.svg")
    assert (again.code, "--force overwrites it" in again.err) == (7, True)
    assert read(dag("--dot", "--layer", "1").out).all("MUL_MAT.*")
    wrong = dag("--layer", "9", "-o", "x.svg")
    assert (wrong.code, "its layers: 0-2, 3" in wrong.err) == (9, True)
    assert not (tmp_path / "x.svg").exists()


def test_without_graphviz_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(KernelError, match="not installed") as caught:
        graphviz.svg("digraph dag {}", {})
    assert "apt-get install graphviz" in caught.value.hint


@pytest.mark.parametrize(
    ("script", "said"),
    [("sleep 60", "within 0.5 s"), ("echo '\033[31mno' >&2; exit 3", "has failed: \\x1b[31mno"),
     ("exit 0", "has failed")],
)  # fmt: skip
def test_graphviz_that_hangs_or_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    fake = tmp_path / "dot"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(shutil, "which", lambda _: str(fake))
    with pytest.raises(KernelError) as caught:
        graphviz.svg("digraph dag {}", {}, seconds=0.5)
    assert said in caught.value.message
