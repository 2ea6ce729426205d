"""What an engine is stands in files: what may stand there, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.engine import description
from profinfer.engine.adapter import adapters, use_adapter
from profinfer.engine.adapter_file import CALLS_MAX, STEPS_MAX, load_adapter
from profinfer.engine.target import EngineObject, file_object
from profinfer.errors import UsageError
from profinfer.probes.plan import Plan, make_plan
from tests.conftest import require

_WHOLE = """
family: toy
marks: [toy_decode]
structs:
  batch: {n_tokens: 0, pos: 8, seq_id: 16}
levels:
  token:
    - records: decode
      functions:
        - toy_decode: {context: 1, batch: 2, struct: batch}
    - calls: forget
      functions: [toy_forget: {context: 1, begin: 2, result: flag}]
  operator:
    - records: operator
      functions: [toy_operator]
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """Where an adapter may be written; afterwards none is in use."""
    yield tmp_path / "toy.yaml"
    use_adapter(None)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("family: toy", "family: [toy]", "family cannot be a list"),
        ("family: toy", "familly: toy", "has no key 'familly'"),
        ("[toy_decode]", "[]", "marks is empty"),
        ("[toy_decode]", "[toy.*]", "marks[0] must begin with 5 letters of one name"),
        ("[toy_decode]", "['toy_decode(']", "marks[0] cannot be 'toy_decode('"),
        ("  token:", "  tokens:", "levels has no key 'tokens'"),
        ("records: operator", "records: barrier", "operator[0].records cannot be 'barrier'"),
        ("[toy_operator]", "[]", "levels.operator[0].functions is empty"),
        ("[toy_operator]", "[{toy_operator: {}}]", "operator[0].functions[0] must be a name"),
        ("context: 1", "context: 7", "toy_decode.context cannot be 7, it is a number from 1 to 6"),
        ("context: 1", "context: yes", "toy_decode.context cannot be True"),
        ("context: 1", "contxt: 1", "toy_decode has no key 'contxt'"),
        ("struct: batch", "struct: batches", "there is llama_ubatch, batch"),
        ("struct: batch", "struct: llama_ubatch, tokens: 3", "has tokens and their position"),
        (", struct: batch", "", "needs both or none of 'batch' and 'struct'"),
        ("pos: 8, ", "", "structs.batch has no 'pos'"),
        ("pos: 8", "pos: -1", "structs.batch.pos cannot be -1"),
        ("calls: forget", "calls: [forget]", "levels.token[1].calls cannot be a list"),
        ("calls: forget", "calls: forget\n      required: true", "of level token or graph"),
        ("calls: forget", "calls: forget\n      records: x", "of level token or graph"),
        ("records: operator", "calls: operator", "of level token or graph"),
        ("begin: 2", "begin: 0", "toy_forget.begin cannot be 0, it is a number from 1 to 6"),
        ("begin: 2", "beginn: 2", "toy_forget has no key 'beginn' did you mean 'begin'?"),
        ("result: flag", "result: 4", "toy_forget.result cannot be 4: there is address, number"),
        ("[toy_forget: ", "[toy_forget, x: ", "functions[0] must be a mapping of names"),
        ("levels:", "levels: [", "is not valid YAML"),
        ("family: toy", "family: !!python/object:os.x {}", "is not valid YAML"),
        ("family: toy", f"family: {'[' * 5000}", "is not valid YAML"),
        ("family: toy", "#" * 70000, "is too large"),
        ("family: toy", "family: !!int ''", "is not valid YAML"),
        ("family: toy", "family: !!bool x", "is not valid YAML"),
        ("family: toy", "family: !!timestamp x", "is not valid YAML"),
        ("family: toy", f"family: 0x{'f' * 9000}", "family cannot be a huge number"),
        ("family: toy", f"? 0x{'f' * 9000}\n: toy", "has the key a huge number"),
        ("[toy_operator]", "['(?i)toy']", "functions[0] cannot be '(?i)toy': global flags"),
        ("[toy_decode]", "['toy_aa(?P<a>b)', 'toy_cc(?P<a>d)']", "its marks do not go together"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_key(before: str, after: str, said: str, own: Path) -> None:
    own.write_text(_WHOLE)
    assert load_adapter(own).family == "toy"
    own.write_text(_WHOLE.replace(before, after, 1))
    with pytest.raises(UsageError) as error:
        use_adapter(own)
    assert str(own) in error.value.message
    assert said in error.value.message + " " + error.value.hint


def test_what_refers_to_itself_is_not_written_out(own: Path) -> None:
    lines = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    own.write_text(f"a0: &a0 [x]\n{lines}")
    with pytest.raises(UsageError, match="has no key 'a0'"):
        use_adapter(own)
    listed = "".join("  - " + line[4:] for line in lines.splitlines(keepends=True))
    own.write_text(f"family:\n  - &a0 [x]\n{listed}marks: [toy_decode]\nlevels: {{}}\n")
    with pytest.raises(UsageError, match="family cannot be a list"):
        use_adapter(own)


def test_an_adapter_takes_the_place_of_one_of_its_family(own: Path) -> None:
    assert [a.family for a in adapters().known] == ["llama.cpp", "whisper.cpp", "ggml"]
    assert len(adapters().steps) < STEPS_MAX, "there is room for some more"
    before = adapters().fingerprint
    own.write_text(_WHOLE)
    use_adapter(own)
    assert [a.family for a in adapters().known] == ["toy", "llama.cpp", "whisper.cpp", "ggml"]
    assert adapters().fingerprint != before
    own.write_text(_WHOLE.replace("family: toy", "family: whisper.cpp"))
    use_adapter(own)
    assert [a.family for a in adapters().known] == ["whisper.cpp", "llama.cpp", "ggml"]


def test_there_is_room_for_so_many_ways_to_call_a_step(own: Path) -> None:
    listed = [
        f"    - records: step\n      functions: [step_{n}: {{context: 1, as: s{n}}}]\n"
        for n in range(STEPS_MAX + 1)
    ]
    own.write_text("family: toy\nmarks: [toy_decode]\nlevels:\n  token:\n" + "".join(listed))
    with pytest.raises(UsageError, match=f"there is room for {STEPS_MAX}"):
        use_adapter(own)
    assert adapters().known[0].family == "llama.cpp", "nothing has changed"


def test_there_is_room_for_so_many_ways_to_make_a_call(own: Path) -> None:
    assert len(adapters().calls) < CALLS_MAX, "there is room for some more"
    listed = [
        f"    - calls: c{n}\n      functions: [toy_{n}: {{context: 1}}]\n"
        for n in range(CALLS_MAX + 1)
    ]
    own.write_text("family: toy\nmarks: [toy_decode]\nlevels:\n  token:\n" + "".join(listed))
    with pytest.raises(UsageError, match=f"calls are called; there is room for {CALLS_MAX}"):
        use_adapter(own)


def test_calls_have_numbers_by_how_they_are_made(own: Path) -> None:
    """And two functions that are called alike are one call."""
    own.write_text(
        _WHOLE.replace(
            "[toy_forget: {context: 1, begin: 2, result: flag}]",
            "\n        - toy_forget: {memory: 1, result: void}\n"
            "          toy_lose: {memory: 1, result: void}\n          toy_drop: {context: 1}",
        )
    )
    use_adapter(own)
    first, second = adapters().calls[:2]
    assert first.to_json() == {
        "name": "forget", "arguments": [("memory", 1, "address")], "result": "void",
    }  # fmt: skip
    assert (second.name, second.arguments) == ("forget", (("context", 1),))
    [point] = [p for p in adapters().points if p.records == "forget"]
    handlers = {f.symbol: adapters().handler(point, f) for f in point.alternatives[0]}
    assert handlers == {
        "toy_forget": "on_call_0", "toy_lose": "on_call_0", "toy_drop": "on_call_1",
    }  # fmt: skip
    assert adapters().symbols["toy_lose"], "its return is probed"
    assert not adapters().symbols["toy_drop"], "an exception may pass"
    assert not point.required


def test_what_is_kept_of_a_file_is_kept_for_these_adapters(
    own: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    [library] = _whisper(repo)[:1]
    description.recall([first := Elf(library)], 0)
    assert description.describe(first).families == ("whisper.cpp",)
    own.write_text(_WHOLE.replace("toy_decode", "whisper_tokenize"))
    use_adapter(own)
    description.recall([again := Elf(library)], 0)
    assert description.describe(again).families == ("toy", "whisper.cpp")
    assert [f.name for f in description.describe(again).named("whisper_tokenize")]


def _whisper(repo: Path) -> list[Path]:
    found = sorted(repo.glob("build/engines/x86_64/pywhispercpp-*/pywhispercpp.libs/libwhisper*"))
    require("pywhispercpp", found)
    return found


@pytest.fixture
def whisper(repo: Path) -> list[EngineObject]:
    """The library of whisper.cpp."""
    return [file_object(_whisper(repo)[0])]


def _probed(plan: Plan) -> list[str]:
    return [probe.symbol for probe in plan.probes if not probe.at_return]


def test_the_first_alternative_that_is_called_is_probed(whisper: list[EngineObject]) -> None:
    first = make_plan(whisper, "token")
    decode, encode = _probed(first)
    assert "whisper_decode_internal" in decode
    assert "whisper_encode_internal" in encode
    assert first.notes == ()
    second = make_plan(whisper, "token", silent=frozenset({decode, encode}))
    assert _probed(second) == [
        "whisper_decode", "whisper_decode_with_state",
        "whisper_encode", "whisper_encode_with_state",
    ]  # fmt: skip
    assert f"level token: {decode} is not called, so whisper_decode," in second.notes[0]
    third = make_plan(whisper, "token", silent=frozenset({*_probed(first), *_probed(second)}))
    assert _probed(third)[0] == "whisper_full_with_state"
    everything = {*_probed(first), *_probed(second), *_probed(third)}
    last = make_plan(whisper, "token", silent=frozenset(everything))
    assert last.probes == third.probes, "nothing is left to try"


def test_steps_keep_their_numbers_from_plan_to_plan(whisper: list[EngineObject]) -> None:
    first = make_plan(whisper, "token")
    for probe in first.probes:
        if not probe.at_return:
            number = int(probe.handler.removeprefix("on_step_"))
            assert adapters().steps[number].name == (
                "decode" if "decode" in probe.symbol else "encode"
            )
