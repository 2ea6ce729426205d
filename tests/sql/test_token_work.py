"""Where the time of a decoding step went: each moment once, worked out by hand."""

from __future__ import annotations

from tests.captures import CONTEXT, MAIN, WORKER, Capture, T
from tests.sql.harness import ask, opened, ready, rows

SECOND_CONTEXT = CONTEXT + 0x100


def part(
    capture: Capture, name: str, begin: int, end: int, tid: int = MAIN, **arguments: int
) -> None:
    """What a step does beside computing."""
    capture.call(name, begin, end, arguments, kind="void", tid=tid, is_part=True)


def capture(level: str = "graph") -> Capture:
    """Two steps of 10 us behind a prompt: within the micro-batch 500 ns in which a tensor is set, a
    graph of 4 us in which 1 us passes in a part of its own, a copy of 700 ns of which 300 are
    waiting; after it 200 ns of reading, and sampling for 2 us of which 900 are waiting."""
    made = Capture(level)
    shape = made.structure(100, [T("x"), T("a-0", "ADD", ("x",))])
    made.ubatch(1_000, 9_000, [(0, 0, 3, 1, 1)])
    for step in range(3):
        at = 10_000 * (step + 1)
        made.call("decode", at - 100, at - 100, {"context": CONTEXT}, kind="")
        made.ubatch(at, at + 6_000, [(0, 3 + step, 1, 1, 1)])
        if level == "graph":
            part(made, "set", at + 100, at + 600, tensor=7, bytes=4)
            part(made, "set", at + 1_500, at + 2_500, tensor=7, bytes=4)
            made.graph(shape, at + 1_000, at + 5_000, {})
            part(made, "wait", at + 5_200, at + 5_500, backend=9)
            part(made, "copy", at + 5_100, at + 5_800, tensor=7)
            part(made, "get", at + 6_300, at + 6_500, tensor=8, bytes=4096)
            part(made, "wait", at + 7_100, at + 8_000, backend=9)
        made.call("sample", at + 7_000, at + 9_000, {"context": CONTEXT}, result=1)
    return made


def test_each_moment_of_a_step_counts_once() -> None:
    with opened(capture()) as session:
        found = ask(
            session, "SELECT part, dur FROM profinfer_token_work WHERE step = 1 ORDER BY part"
        )
        inside = ask(
            session,
            "SELECT part, is_inside, dur FROM profinfer_ubatch_work"
            " WHERE part IN ('wait', 'ubatch') AND ubatch_id = 2 ORDER BY part, is_inside",
        )
        table = ready(session, "tokens")
    assert found == [
        ("calls", 100), ("copy", 400), ("get", 200), ("graphs", 4_000), ("rest", 1_700),
        ("sample", 1_100), ("set", 500), ("ubatch", 800), ("wait", 1_200),
    ]  # fmt: skip
    assert sum(int(str(dur)) for _, dur in found) == 10_000
    assert inside == [("ubatch", 1, 800), ("wait", 0, 900), ("wait", 1, 300)]
    _, means, unknown = table.values()
    assert rows(means, "part", "steps", "mean_ms", "percent")[:3] == [
        ("graphs", 2, 0.004, 40.0), ("rest", 2, 0.0017, 17.0), ("wait", 2, 0.0012, 12.0),
    ]  # fmt: skip
    assert sum(float(str(row["percent"])) for row in means) == 100
    assert unknown == []


def test_parts_that_are_not_known_are_null_with_the_reason() -> None:
    """Without level graph no part is probed; and an engine may lack a function."""
    bare, lacking = capture("token"), capture()
    part(bare, "set", 50_000, 50_001)
    for made, of in ((bare, "set"), (lacking, "copy")):
        plan = made.start()["plan"]
        number = [call["name"] for call in plan["calls"]].index(of)
        handlers = [probe for probe in plan["probes"] if probe["handler"] != f"on_call_{number}"]
        if made is lacking:
            handlers.append({"handler": "on_backend_graph"})
        made.at_start["plan"] = plan | {"probes": handlers}
    bare.wide = [(ts, raw) for ts, raw in bare.wide if ts < 1_000_000_000_000 + 50_000]
    for made, of, reason in (
        (bare, "set", "it was not recorded (record --level graph)"),
        (lacking, "copy", "the engine has none of its functions, or calls none of them by name"),
    ):
        with opened(made) as session:
            _, means, unknown = ready(session, "tokens").values()
        assert rows(unknown, "part", "reason") == [(of, reason)]
        assert [row["mean_ms"] for row in means if row["part"] == of] == [None]


def test_two_requests_at_once_share_what_lies_between() -> None:
    """What another one's micro-batch did on the same thread is in the step, too: it waited."""
    made = Capture("graph")
    shape = made.structure(100, [T("x"), T("a-0", "ADD", ("x",))])
    made.ubatch(1_000, 2_000, [(0, 0, 3, 1, 1)])
    made.ubatch(3_000, 4_000, [(1, 0, 3, 1, 1)])
    for step in range(3):
        for sequence in range(2):
            at = 10_000 * (step + 1) + 5_000 * sequence
            made.ubatch(at, at + 4_000, [(sequence, 3 + step, 1, 1, 1)])
            made.graph(shape, at + 500, at + 3_500, {})
    # Threads of other contexts are no part of it.
    made.ubatch(10_500, 11_500, [(0, 0, 1, 1, 1)], tid=WORKER, context=SECOND_CONTEXT)
    with opened(made) as session:
        found = ask(
            session,
            "SELECT request_id, part, dur FROM profinfer_token_work"
            " WHERE step = 1 AND request_id < 3 ORDER BY request_id, part",
        )
    assert found == [
        (request, *one)
        for request in (1, 2)
        for one in (("graphs", 6_000), ("rest", 2_000), ("ubatch", 2_000))
    ]
