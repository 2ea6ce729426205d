"""The verdict: each rule on both sides of its threshold, and each known situation's cause first."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from profinfer.commands.explain import lines
from profinfer.trace_processor import Session, open_trace
from tests.captures import BASE, MAIN, WORKER, Capture, Run, T, convert
from tests.converting.recordings import frames
from tests.sql import test_memory as memory
from tests.sql.costs import decoding, measure
from tests.sql.engines import PROMPT, UNIT, Engine, crowded, since, without_pool
from tests.sql.harness import ask, opened, ready
from tests.sql.schedules import ubatches
from tests.sql.test_counters import EVENTS, reading
from tests.sql.test_kv_cache import grown
from tests.sql.test_parts import SERVER, decode

Line = dict[str, Any]
MS = 1_000_000


def explained(session: Session) -> list[Line]:
    """The rows of the ready query."""
    [table] = ready(session, "explain").values()
    return list(table)


def explain(capture: Capture) -> list[Line]:
    with opened(capture) as session:
        return explained(session)


def of(kind: str, found: Sequence[Line]) -> list[str]:
    return [str(line["sentence"]) for line in found if line["kind"] == kind]


def bounds(capture: Capture) -> list[str]:
    """The rules that say what it was bound by, in order."""
    with opened(capture) as session:
        return said(session, "bound")


def said(session: Session, kind: str) -> list[str]:
    session.query("INCLUDE PERFETTO MODULE profinfer.verdict.lines")
    found = session.query("SELECT rule, kind FROM _verdict_line ORDER BY place")
    return [str(rule) for rule, its in found if its == kind]


# ---- Known situations: the cause comes first, and not on the undisturbed run


def prompts(tokens: int, parts: int = 4) -> Capture:
    """A prompt in so many micro-batches of 10 ms, and three decoded tokens."""
    rows: list[tuple[int, int, list[Run]]] = []
    for i in range(parts):
        last = int(i == parts - 1)
        rows.append((11 * i, 11 * i + 10, [(0, tokens * i, tokens, last, last)]))
    for i in range(3):
        rows.append((50 + 11 * i, 60 + 11 * i, [decode(0, tokens * parts + i)]))
    return ubatches(Capture(), rows)


def turns(theirs: int) -> Capture:
    """Two slots whose tokens are decoded in turns: 4 ms for the first, `theirs` for the second."""
    rows, now = [(0, 4, [(0, 0, 2, 1, 1)]), (5, 6, [(1, 0, 2, 1, 1)])], 7
    for step in range(5):
        rows += [(now, now + 4, [decode(0, 2 + step)])]
        rows += [(now + 5, now + 5 + theirs, [decode(1, 2 + step)])]
        now += 6 + theirs
    return ubatches(Capture(), rows)


def counting(stalled: int) -> Capture:
    """Two operators on two threads, of whose 100,000 cycles each so many were stalled."""
    capture = Capture()
    shape = capture.structure(0, [T("x"), T("a-0", "ADD", ("x",)), T("b-0", "MUL_MAT", ("a-0",))])
    operators = [("a-0", 10_000, 40_000), ("b-0", 41_000, 71_000)]
    capture.graph(shape, 9_000, 72_000, {MAIN: operators, WORKER: operators})
    for tid in (MAIN, WORKER):
        readings = {
            at: reading(at, 100_000 * done, 50_000 * done, stalled * done, 0)
            for at, done in ((10_000, 0), (40_000, 1), (41_000, 1), (71_000, 2), (72_000, 2))
        }
        capture.count(tid, readings, [dict(event) for event in EVENTS[:3]])
    return capture


def faulting(major: bool) -> Capture:
    capture = memory.small()
    if not major:
        capture.records = [row._replace(b=0) if row.b == 1 else row for row in capture.records]
    return capture


def at_operators(why: str = "", later: int = 0) -> Engine:
    """Recorded without barriers, as is the default."""
    return Engine(why, later, level="operator", prompt=100 + 50 * PROMPT)


SITUATIONS: dict[str, tuple[Callable[[], Capture], Callable[[], Capture], str, str]] = {
    # What is there, what is nearly there, the rule, and the query that has its number.
    "an intruder takes a CPU": (
        Engine("other", 20).capture, Engine("other", 5).capture, "others", "interference",
    ),
    "the engine's own threads do": (
        Engine("own", 20).capture, Engine("own", 5).capture, "own threads", "interference",
    ),
    "too many threads": (crowded, Engine().capture, "own threads", "interference"),
    "a quota is used up": (
        Engine("throttled", 20).capture, Engine("throttled", 5).capture, "quota", "interference",
    ),
    "an intruder, without barriers": (
        at_operators("other", 80).capture, at_operators("other", 20).capture, "taken",
        "interference",
    ),
    "its own threads, without barriers": (
        at_operators("own", 80).capture, at_operators("own", 20).capture, "taken by own",
        "interference",
    ),
    "a quota, without barriers": (
        at_operators("throttled", 80).capture, at_operators("throttled", 20).capture, "throttled",
        "interference",
    ),
    "page faults": (Engine("fault", 20).capture, Engine("fault", 5).capture, "faults", "stalls"),
    "sleep": (Engine("sleep", 20).capture, Engine("sleep", 5).capture, "sleep", "stalls"),
    "threads are started anew": (
        lambda: without_pool(80), lambda: without_pool(8), "starting", "stalls",
    ),
    "a CPU is waited for that nobody knows who had": (
        Engine("woken", 80, scheduler="target").capture,
        Engine("woken", 20, scheduler="target").capture, "no CPU", "interference",
    ),
    "imbalance": (Engine(later=80).capture, Engine(later=20).capture, "imbalance", "stalls"),
    "waiting, nobody knows why": (
        Engine(later=80, scheduler="").capture, Engine(later=20, scheduler="").capture, "late",
        "stalls",
    ),
    "the price of barriers": (
        Engine(release=30).capture, Engine(release=10).capture, "barriers", "stalls",
    ),
    "time between micro-batches": (
        Engine(gap=80).capture, Engine(gap=40).capture, "outside", "requests",
    ),
    "requests that wait for each other": (
        lambda: turns(4), lambda: ubatches(Capture(), SERVER[:1]), "other requests", "requests",
    ),
    "the context grows": (lambda: grown(320), lambda: grown(40), "context", "kv_growth"),
    "several backends": (
        Engine(offloaded=50).capture, Engine(offloaded=1_000).capture, "backends", "summary",
    ),
    "small batches": (lambda: prompts(8), lambda: prompts(32), "small batches", "summary"),
    "a memory limit": (lambda: faulting(True), lambda: faulting(False), "major faults", "faults"),
    "what a step costs": (
        Engine().capture, Engine(prompt=100 + 60 * (PROMPT - 1)).capture, "step", "hotspots",
    ),
    "what a step costs, by most of its products": (
        Engine(head=90).capture, Engine(head=110).capture, "step", "hotspots",
    ),
    "arithmetic": (
        Engine(prompt=100 * PROMPT, prompts=4).capture,
        Engine(prompt=100 * PROMPT, prompts=2).capture, "arithmetic", "hotspots",
    ),
    "stalled cycles": (
        lambda: counting(60_000), lambda: counting(40_000), "stalled", "counters",
    ),
    "cycles that are not stalled": (
        lambda: counting(15_000), lambda: counting(40_000), "fed", "counters",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_each_situation_is_named_first_and_only_where_it_is(name: str) -> None:
    there, nearly, rule, query = SITUATIONS[name]
    with opened(there()) as session:
        assert said(session, "bound")[0] == rule
        found = explained(session)
    first = next(line for line in found if line["kind"] == "bound")
    assert (first["query"], len(found) <= 10) == (query, True)
    advice = next(line for line in found if line["kind"] == "try")
    assert advice["query"] == query
    # The number is in the sentence.
    percent = f"{first['value']:.0f} %" if first["value"] >= 9.95 else f"{first['value']:.1f} %"
    assert percent in first["sentence"], first
    assert rule not in bounds(nearly())


def test_what_other_backends_compute_is_not_taken_for_sampling() -> None:
    found = explain(Engine(gap=200, offloaded=20).capture())
    [line] = [line for line in found if line["kind"] == "bound" and line["query"] == "requests"]
    assert line["sentence"].endswith("; what other backends were given is awaited there.")
    assert any(advice.startswith("See backends:") for advice in of("try", found))


def test_an_undisturbed_run_is_bound_by_its_own_work() -> None:
    found = explain(Engine(prompt=100 + 50 * PROMPT).capture())
    assert [line["rank"] for line in found] == list(range(1, len(found) + 1))
    assert of("bound", found) == [
        "Its own work: 56.0 ms of the 56.7 ms of its threads in operators (99 %), 57 % of that in"
        " MUL_MAT."
    ]
    assert of("ruled_out", found) == [
        "Not the cause: CPUs taken by others 0.0 %, CPUs taken by own threads 0.0 %, throttling"
        " 0.0 % of graphs' time.",
        "Not the cause: sleep in page faults 0.0 %, other sleep 0.0 % of graphs' time; imbalance"
        " 0.0 %, barriers 1.3 % of threads' time.",
    ]
    assert of("try", found) == []
    unknown, cost = of("unknown", found)
    assert unknown.startswith("Whether memory or arithmetic bounds its operators")
    assert "--counters stalls,memory" in unknown
    assert cost == (
        "What of its operators' work is the probes' own: what a hit costs there was not measured."
    )


@pytest.mark.parametrize(("release", "expected"), [(90, ["barriers", "work"]), (210, ["barriers"])])
def test_its_work_is_said_where_it_is_most_of_the_threads_time(
    release: int, expected: list[str]
) -> None:
    """Of what one token takes each further one adds 65 %: neither memory nor arithmetic."""
    prompt = 100 + (PROMPT - 1) * 65 * (100 + release) // 100
    assert bounds(Engine(prompt=prompt, release=release).capture()) == expected


def test_the_op_is_said_where_work_is_not_told_from_waiting() -> None:
    assert bounds(at_operators().capture()) == ["operators"]
    assert bounds(Engine(prompt=100 + 50 * PROMPT).capture()) == ["work"]


# ---- The numbers are those of the ready queries


def total(session: Session, query: str, title: str, column: str) -> float:
    return sum(float(str(row[column])) for row in ready(session, query)[title])


def test_numbers_are_those_of_the_query_that_is_named() -> None:
    with opened(Engine("other", 60, spinner="the spinner").capture()) as session:
        found = explained(session)
        [request] = ready(session, "summary")["Requests"]
        [taker] = ready(session, "interference")["Who took the CPU (the first 20)"]
        [phase] = [
            row for row in ready(session, "summary")["Time by phase"] if row["phase"] == "decode"
        ]
    assert of("speed", found) == [
        f"Request {request['request']}: prompt {request['prefill_tokens_per_s']:,.0f} t/s"
        f" ({PROMPT} tokens), TTFT {request['ttft_ms']:.2f} ms, decode"
        f" {request['decode_tokens_per_s']:.0f} t/s, TPOT median {request['tpot_median_ms']:.2f}"
        " ms."
    ]
    assert found[0]["value"] == pytest.approx(request["decode_tokens_per_s"], abs=0.05)
    assert taker["delay_ms"] == 7.2  # 12 times 0.6
    assert phase["graphs"] == 11
    assert of("bound", found)[0] == (
        "Somebody else: threads of others had its threads' CPUs, and operators were done"
        f" {taker['delay_ms']:.2f} ms later in all, 22 % of the 32.2 ms that its graphs took;"
        " 7.20 ms of that by the spinner (500)."
    )
    assert of("try", found)[0].startswith("Keep the spinner (500) off its CPUs")


def test_imbalance_is_that_of_stalls() -> None:
    with opened(Engine(later=80).capture()) as session:
        stalls = "Stalls by op (ms, summed over threads)"
        waited = total(session, "stalls", stalls, "imbalance_ms")
        work = total(session, "stalls", stalls, "work_ms") + total(
            session, "stalls", stalls, "wait_ms"
        )
        [line, *_] = of("bound", explained(session))
    assert line == (
        f"Imbalance: threads waited {waited:.2f} ms of the {work:.1f} ms of its threads in"
        f" operators ({100 * waited / work:.0f} %) for one that was still at work;"
        f" {waited:.2f} ms of that in up-0 (MUL_MAT)."
    )


def test_the_recordings_own_cost_is_said_from_a_twentieth_on() -> None:
    said_of = {}
    for waited in (0.032, 0.128):
        capture = measure(decoding())
        capture.at_end["threads_waited_s"] = waited
        with opened(capture) as session:
            title = "Predicted slowdown of decoding (per token and thread)"
            [row] = ready(session, "overhead")[title]
            said_of[row["slowdown_percent"]] = of("speed", explained(session))[1:]
    of_work = "Of its operators' work, 4.31 ms, the probes took 2.5 %: net times are without."
    assert said_of == {
        2.35: [of_work],
        4.75: [of_work],
    }


def test_the_probes_share_of_the_work_is_said_from_a_fiftieth_on() -> None:
    capture = measure(decoding())
    capture.at_start["plan"]["probes"] = [
        p | {"hit_ns": p["hit_ns"] / 2} for p in capture.at_start["plan"]["probes"]
    ]
    with opened(capture) as session:
        assert of("speed", explained(session))[1:] == []


# ---- What is not known


def test_without_the_scheduler_it_says_what_to_record() -> None:
    found = explain(Engine(scheduler="").capture())
    assert not [
        line for line in found if line["query"] == "interference" and line["kind"] != "unknown"
    ]
    assert [text for text in of("unknown", found) if "(record --scheduler)" in text]


def test_without_barriers_or_operators_it_says_what_to_record() -> None:
    found = explain(at_operators().capture())
    assert of("bound", found)[0].startswith("Operators: ")
    assert any("record --level barrier" in text for text in of("unknown", found))
    capture = Engine(level="graph", scheduler="").capture()
    capture.records = [row for row in capture.records if row.kind not in (1, 2)]
    found = explain(capture)
    assert of("bound", found) == of("try", found) == []


def test_lost_records_silence_what_they_may_have_changed() -> None:
    """Every third token's operators are lost: what is left does not tell what the sums would be."""
    capture = Engine(later=80).capture()
    capture.lose(lambda row: row.kind in (1, 3) and since(row) // 300 % 3 == 0)
    with opened(capture) as session:
        assert "imbalance" not in said(session, "bound")
        found = explained(session)
    assert "lost records" in of("unknown", found)[0]
    assert {line["incomplete"] for line in found} != {0}


def test_without_the_schedulers_records_nobody_is_blamed() -> None:
    capture = Engine("other", 60).capture()
    drains = [(BASE + t * UNIT, BASE + t * UNIT) for t in range(200, 3000, 100)]
    capture.unschedule(lambda row: row.tid == WORKER and since(row) > 400)
    with opened(capture, drains=drains) as session:
        assert not {"others", "imbalance"} & set(said(session, "bound"))
        assert "uncertain" in said(session, "unknown")
        assert not [line for line in explained(session) if "Somebody else" in line["sentence"]]


def test_nothing_is_said_of_nothing() -> None:
    assert explain(Capture()) == []
    assert list(lines([], 80)) == ["nothing to explain: no process computed anything in this trace"]


# ---- Text


def test_names_are_cut_and_cannot_steer_a_terminal() -> None:
    name = "\x1b[2J\u202e" + "x" * 15
    with opened(Engine("other", 60, spinner=name).capture()) as session:
        found = explained(session)
    text = "\n".join(lines(found, 60))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J" in text
    assert all(len(line) <= 60 for line in text.splitlines())


def test_each_line_has_its_query_behind_it() -> None:
    found = explain(Engine("other", 60).capture())
    text = " ".join(" ".join(lines(found, 100)).split())
    assert re.findall(r"\[(\w+)\]", text) == [line["query"] for line in found]
    assert text.startswith("speed Request 1: ")
    assert text.count("bound by ") == text.count(" ruled out ") == 1


def test_a_real_recording_of_two_backends(tmp_path: Path) -> None:
    """The one that is checked in (tests/converting)."""
    with open_trace(
        convert(frames(tmp_path), tmp_path / "known.pftrace"), trace_processor="wasm"
    ) as session:
        found = explained(session)
        [(cpu, whole)] = ask(
            session,
            "SELECT sum(iif(g.backend = 'CPU', g.dur, 0)),"
            " (SELECT sum(dur) FROM profinfer_ubatch) FROM profinfer_graph AS g",
        )
    [cause, *_] = of("bound", found)
    assert cause.startswith("2 backends (CPU, fake): 2.0 graphs in a micro-batch; ")
    assert found[0]["kind"] == "speed"
    percent = next(line["value"] for line in found if line["kind"] == "bound")
    assert percent == pytest.approx(100 * int(str(cpu)) / int(str(whole)), abs=0.01)
