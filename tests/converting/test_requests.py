"""What users have reported: the smallest input of each, and what is right."""

from __future__ import annotations

from collections.abc import Sequence

from tests.captures import CONTEXT, Capture, Run
from tests.sql.harness import Rows, ask, opened, ready, rows
from tests.sql.schedules import ubatches

MS = 1_000_000
MEMORY, DRAFTING = 0x70, CONTEXT + 0x100
TOLD = (
    "SELECT kind, cached_tokens, prompt_tokens, tokens, steps, ttft / 1000000, certain "
    "FROM profinfer_request ORDER BY request_id"
)
PHASES = "SELECT request_id, phase, position, tokens, accepted FROM profinfer_sequence ORDER BY ts"


class Engine(Capture):
    """A capture in which the engine's calls are seen, a millisecond each."""

    now = 0

    def _tick(self) -> int:
        self.now += MS
        return self.now

    def _calls(self, name: str, **arguments: int) -> None:
        self.call(name, self._tick(), self._tick(), arguments)

    def change(self, name: str, **arguments: int) -> None:
        """A call for the memory of the context."""
        begin = self._tick()
        self.call("memory", begin, self._tick(), {"context": CONTEXT}, result=MEMORY,
                  kind="address")  # fmt: skip
        self._calls(name, memory=MEMORY, **arguments)

    def remove(self, sequence: int, begin: int) -> None:
        self.change("remove", sequence=sequence, begin=begin, end=-1)

    def sample(self, context: int = CONTEXT) -> None:
        self._calls("sample", context=context)

    def compute(
        self, *batches: Sequence[Run], name: str = "decode", context: int = CONTEXT
    ) -> None:
        """A call with its micro-batches."""
        begin = self._tick()
        for runs in batches:
            start = self._tick()
            self.ubatch(start, self._tick(), runs, context=context,
                        graph_type=1 if name == "encode" else 2)  # fmt: skip
        self.call(name, begin, self._tick(), {"context": context})


def told(capture: Capture, sql: str = TOLD) -> Rows:
    with opened(capture) as session:
        return ask(session, sql)


def observed(*runs: Run) -> Capture:
    """Micro-batches of an engine whose calls are not seen: 10 ms each, 20 ms apart."""
    return ubatches(Capture(), [(20 * i, 20 * i + 10, [run]) for i, run in enumerate(runs)])


def test_the_same_prompt_again() -> None:
    engine = Engine()
    for position, tokens in ((0, 4), (3, 1), (3, 1)):
        engine.remove(0, position)
        engine.compute([(0, position, tokens, 1, 1)])
        engine.sample()
    # From the removal to the sampling that returns: 1 + 1 + 4 + 2 ms, the ticks in between counted.
    assert told(engine) == [
        ("request", 0, 4, 1, 0, 7, 1),
        ("request", 3, 1, 1, 0, 7, 1),
        ("request", 3, 1, 1, 0, 7, 1),
    ]


def test_the_same_prompt_again_by_positions_alone() -> None:
    assert told(observed((0, 0, 4, 1, 1), (0, 3, 1, 1, 1), (0, 3, 1, 1, 1))) == [
        ("request", 0, 4, None, 0, None, 1),
        ("request", 3, 1, None, 0, None, 1),
        ("request", 3, 1, None, 0, None, 1),
    ]


def test_a_client_that_goes_away_within_its_prefill() -> None:
    found = told(observed((0, 0, 32, 0, 0), (0, 0, 2, 1, 1), (0, 2, 1, 1, 1), (0, 3, 1, 1, 1)))
    assert found == [("request", 0, 32, 0, 0, None, 1), ("request", 0, 2, 3, 2, 20, 1)]


def test_a_prompt_that_is_asked_for_again_after_it_was_given_up() -> None:
    """It goes on where it was left: nothing but the pause tells."""
    engine = Engine()
    for pause in (0, 1, 2_000):
        engine.now += pause * MS
        engine.remove(0, 0)
        engine.compute([(0, 0, 32, 0, 0)])
        engine.now += pause * MS
        engine.remove(0, 32)
        engine.compute([(0, 32, 8, 1, 1)])
        engine.sample()
    found = told(engine, "SELECT prompt_tokens, certain FROM profinfer_request")
    assert found == [(40, 1), (40, 1), (40, 0)]


def test_logits_of_all_tokens_in_several_ubatches() -> None:
    engine = Engine()
    engine.compute([(0, 0, 64, 64, 1)], [(0, 64, 2, 2, 1)])
    assert told(engine) == [("request", 0, 66, None, 0, None, 1)]
    # By positions alone the second may have verified a draft.
    found = observed((0, 0, 64, 64, 1), (0, 64, 2, 2, 1))
    assert told(found) == [("request", 0, 66, None, 0, None, 0)]


def test_several_answers_to_one_prompt() -> None:
    """The other slot had a request before: its answer is no part of that."""
    engine = Engine()
    engine.remove(1, 0)
    engine.compute([(1, 0, 2, 1, 1)])
    engine.sample()
    engine.remove(0, 0)
    engine.compute([(0, 0, 15, 1, 1)])
    engine.remove(1, -1)
    engine.change("copy", source=0, sequence=1, begin=-1, end=-1)
    engine.sample()
    engine.sample()
    engine.compute([(0, 15, 1, 1, 1), (1, 15, 1, 1, 1)])
    with opened(engine) as session:
        assert ask(session, TOLD) == [
            ("request", 0, 2, 1, 0, 7, 1),
            ("request", 0, 15, 2, 1, 15, 1),
            ("request", 15, 0, 2, 1, 17, 1),
        ]
        shared = "SELECT shared_prefill_of, sequence FROM profinfer_request"
        assert ask(session, shared) == [(None, 1), (None, 0), (2, 1)]


def test_several_answers_by_positions_alone() -> None:
    found = told(observed((0, 0, 2, 1, 1), (0, 15, 1, 1, 1)))
    # Two tokens at first may be the engine's test batch, too.
    assert found == [("request", 0, 2, None, 0, None, 0), ("request", 15, 0, 1, 1, None, 0)]


def test_an_encoder_belongs_to_what_is_decoded() -> None:
    engine = Engine()
    engine.compute([(0, 0, 100, 100, 1)], name="encode")
    for position in range(9):
        engine.compute([(0, position, 1, 1, 1)])
        engine.sample()
    with opened(engine) as session:
        assert ask(session, TOLD) == [("request", 0, 101, 9, 8, 9, 1)]
        durations = "SELECT encode_dur, prefill_dur FROM profinfer_request"
        assert ask(session, durations) == [(MS, MS)]
        assert [row[1] for row in ask(session, PHASES)] == ["encode", "prefill", *["decode"] * 8]


def test_drafts_and_who_verifies_them() -> None:
    """Two of three drafts are rejected, then none of one. The draft model's refills are no
    requests."""
    engine = Engine()
    engine.remove(0, 0)
    engine.compute([(0, 0, 4, 1, 1)])
    engine.sample()
    engine.compute([(0, 0, 4, 0, 0)], context=DRAFTING)
    for position in (4, 5, 6):
        engine.compute([(0, position, 1, 1, 1)], context=DRAFTING)
        engine.sample(DRAFTING)
    engine.compute([(0, 4, 4, 4, 1)])
    engine.sample()
    engine.sample()
    engine.remove(0, 6)
    engine.compute([(0, 6, 1, 1, 1)], context=DRAFTING)
    engine.sample(DRAFTING)
    engine.compute([(0, 6, 2, 2, 1)])
    engine.sample()
    engine.sample()
    engine.remove(0, 8)
    with opened(engine) as session:
        assert ask(session, TOLD) == [("request", 0, 4, 5, 2, 7, 1)]
        assert ask(session, "SELECT verified_tokens FROM profinfer_request") == [(6,)]
        steps = "SELECT tokens, rejected FROM profinfer_token"
        assert ask(session, steps) == [(2, 2)]
        ends = "SELECT max(ts + dur) FROM slice WHERE name = 'sample'"
        assert ask(session, ends) == ask(session, "SELECT ts + dur FROM profinfer_request")
        assert ask(session, PHASES) == [
            (1, "prefill", 0, 4, None),
            (1, "draft", 0, 4, None),
            (1, "draft", 4, 1, None),
            (1, "draft", 5, 1, None),
            (1, "draft", 6, 1, None),
            (1, "decode", 4, 4, 2),
            (1, "draft", 6, 1, None),
            (1, "decode", 6, 2, 2),
        ]
        phases = "SELECT DISTINCT phase FROM profinfer_ubatch WHERE context = "
        assert ask(session, f"{phases}{DRAFTING}") == [("draft",)]
        table = ready(session, "summary")["Requests"]
        assert rows(table, "tokens", "steps", "verified_tokens", "certain") == [(5, 2, 6, 1)]


def test_the_last_verification_is_not_known_by_positions() -> None:
    assert told(observed((0, 0, 4, 1, 1), (0, 4, 3, 3, 1), (0, 5, 3, 3, 1))) == [
        ("request", 0, 4, None, 2, 20, 1)
    ]


def test_a_step_in_two_micro_batches_is_one() -> None:
    """llama.cpp takes as many tokens from each slot: another one has fewer drafts."""
    engine = Engine()
    for sequence, tokens in ((0, 3), (1, 9)):
        engine.remove(sequence, 0)
        engine.compute([(sequence, 0, tokens, 1, 1)])
        engine.sample()
    engine.compute([(0, 3, 2, 2, 1), (1, 9, 2, 2, 1)], [(0, 5, 3, 3, 1)])
    for _ in range(2):
        engine.sample()
    engine.remove(0, 4)
    engine.remove(1, 10)
    engine.compute([(0, 4, 1, 1, 1), (1, 10, 1, 1, 1)])
    for _ in range(2):
        engine.sample()
    with opened(engine) as session:
        found = ask(session, "SELECT sequence, tokens, steps, verified_tokens, certain "
                    "FROM profinfer_request ORDER BY sequence")  # fmt: skip
        assert found == [(0, 3, 2, 6, 1), (1, 3, 2, 3, 1)]
        steps = "SELECT position, tokens, rejected, ubatch_dur FROM profinfer_token ORDER BY 4"
        assert ask(session, steps) == [(9, 1, 1, MS), (3, 1, 4, 2 * MS)]
        sums = ("SELECT sum(dur) - (SELECT sum(tpot) FROM profinfer_token) "
                "FROM profinfer_request_part WHERE step")  # fmt: skip
        assert ask(session, "INCLUDE PERFETTO MODULE profinfer.tokens.parts; " + sums) == [(0,)]


def test_an_engines_own_test_batch() -> None:
    engine = Engine()
    engine.compute([(0, 0, 2, 1, 1)])
    engine.change("clear")
    engine.compute([(0, 0, 4, 1, 1)])
    engine.sample()
    with opened(engine) as session:
        assert ask(session, "SELECT kind, certain FROM profinfer_request") == [
            ("warm-up", 1), ("request", 1),
        ]  # fmt: skip
        assert rows(ready(session, "summary")["Requests"], "kind") == [("request",)]
        everything = ready(session, "summary", is_all=True)["Requests"]
        assert rows(everything, "kind") == [("warm-up",), ("request",)]


def test_a_test_batch_by_positions_alone_may_be_a_request() -> None:
    found = told(observed((0, 0, 2, 1, 1), (0, 0, 4, 1, 1)), "SELECT kind, certain, reason "
                 "FROM profinfer_request")  # fmt: skip
    assert found == [
        ("warm-up", 0, "it may be the engine's test batch"), ("request", 1, None),
    ]  # fmt: skip


def test_warming_up_is_said() -> None:
    engine = Engine()
    engine._calls("warmup", context=CONTEXT, on=1)
    engine.compute([(0, 0, 40, 1, 1)])
    engine._calls("warmup", context=CONTEXT, on=0)
    engine.compute([(0, 0, 4, 1, 1)])
    assert [row[0] for row in told(engine)] == ["warm-up", "request"]


def test_a_context_that_is_made_where_another_was() -> None:
    """It has a test batch of its own, and what the other was asked has ended, computed or not."""
    engine = Engine()
    for seen in ("free", "create", ""):
        engine.compute([(0, 0, 2, 1, 1)])
        engine.change("clear")
        engine.compute([(0, 0, 4, 1, 1)])
        engine.sample()
        engine.compute([(1, 0, 8, 0, 0)])
        if seen == "free":
            engine._calls("free", context=CONTEXT)
        elif seen:
            begin = engine._tick()
            engine.call("create", begin, engine._tick(), {"model": 7}, result=CONTEXT,
                        kind="address")  # fmt: skip
    found = told(engine, "SELECT kind, prompt_tokens, tokens, certain FROM profinfer_request "
                 "ORDER BY request_id")  # fmt: skip
    assert found == [("warm-up", 2, None, 1), ("request", 4, 1, 1), ("request", 8, 0, 1)] * 3


def test_what_is_in_a_new_context_that_was_not_computed_there_was_restored() -> None:
    engine = Engine()
    engine.compute([(0, 0, 8, 0, 0)])
    engine._calls("free", context=CONTEXT)
    engine.compute([(0, 8, 4, 1, 1)])
    engine.sample()
    found = told(engine, "SELECT prompt_tokens, cached_tokens, certain FROM profinfer_request")
    assert found == [(8, 0, 1), (4, None, 0)]


def test_what_is_put_into_a_sequence_may_go_on_or_begin() -> None:
    """A server puts a kept prompt into its slot, then begins; or does so while it answers there."""
    engine = Engine()
    engine.remove(0, 0)
    engine.compute([(0, 0, 4, 1, 1)])
    engine.sample()
    engine._calls("restore", context=CONTEXT, sequence=0)
    engine.remove(0, 9)
    for position, tokens in ((9, 3), (12, 1)):
        engine.compute([(0, position, tokens, 1, 1)])
        engine.sample()
    engine._calls("restore", context=CONTEXT, sequence=0)
    engine.compute([(0, 5, 1, 1, 1)])
    found = told(engine, "SELECT prompt_tokens, cached_tokens, tokens, certain "
                 "FROM profinfer_request")  # fmt: skip
    assert found == [(4, 0, 1, 1), (3, 9, 2, 0), (0, None, 1, 0)]


def test_a_context_that_is_shifted_goes_on() -> None:
    engine = Engine()
    engine.remove(0, 0)
    engine.compute([(0, 0, 40, 1, 1)])
    engine.sample()
    engine.compute([(0, 40, 1, 1, 1)])
    engine.sample()
    engine.change("remove", sequence=0, begin=1, end=21)
    engine.change("add", sequence=0, begin=21, end=41, delta=-20)
    engine.compute([(0, 21, 1, 1, 1)])
    engine.sample()
    assert told(engine) == [("request", 0, 40, 3, 2, 7, 1)]
    # By positions alone it may as well be another request, all but a token of it in the cache.
    found = told(observed((0, 0, 40, 1, 1), (0, 40, 1, 1, 1), (0, 21, 1, 1, 1)))
    assert [row[-1] for row in found] == [0, 0]


def test_a_prompt_in_parts_is_one_while_nobody_samples() -> None:
    engine = Engine()
    for position, tokens in ((0, 8), (8, 8), (16, 3)):
        engine.compute([(0, position, tokens, 1, 1)])
    engine.sample()
    assert told(engine) == [("request", 0, 19, 1, 0, 13, 1)]


def stepwise(engine: Engine, prompt: Sequence[int], steps: int, *, is_sampled: bool) -> None:
    """A request of an engine that removes, before whatever it computes, what stands behind that."""
    position = 0
    for tokens in (*prompt, *[1] * steps):
        engine.remove(0, position)
        engine.compute([(0, position, tokens, 1, 1)])
        position += tokens
        if is_sampled and position >= sum(prompt):
            engine.sample()


def test_an_engine_that_removes_before_each_step() -> None:
    for is_sampled, tokens in ((True, 6), (False, 6)):
        engine = Engine()
        for _ in range(2):
            stepwise(engine, [8], 5, is_sampled=is_sampled)
        found = told(engine, "SELECT prompt_tokens, cached_tokens, tokens, certain "
                     "FROM profinfer_request")  # fmt: skip
        assert found == [(8, 0, tokens, 1)] * 2


def test_an_engine_that_removes_before_each_part_of_a_prompt() -> None:
    engine = Engine()
    for _ in range(2):
        stepwise(engine, [8, 8, 3], 5, is_sampled=True)
    assert (
        told(engine, "SELECT prompt_tokens, tokens, certain FROM profinfer_request")
        == [(19, 6, 1)] * 2
    )


def test_a_removal_begins_a_request_where_steps_come_without() -> None:
    """Asked for one token, then for more with that as the prompt's only new one."""
    engine = Engine()
    engine.remove(0, 0)
    engine.compute([(0, 0, 8, 1, 1)])
    engine.sample()
    for position in (8, 9):
        engine.compute([(0, position, 1, 1, 1)])
        engine.sample()
    engine.remove(0, 10)
    engine.compute([(0, 10, 1, 1, 1)])
    engine.sample()
    found = told(engine, "SELECT prompt_tokens, cached_tokens, tokens, certain "
                 "FROM profinfer_request")  # fmt: skip
    assert found == [(8, 0, 3, 1), (1, 10, 1, 1)]


def test_the_last_part_of_a_prompt_may_be_one_token() -> None:
    """Whether the sampler is used is not known yet: then it is taken for a step."""
    engine = Engine()
    for _ in range(2):
        engine.remove(0, 0)
        engine.compute([(0, 0, 8, 1, 1)])
        engine.compute([(0, 8, 1, 1, 1)])
        engine.sample()
        engine.compute([(0, 9, 1, 1, 1)])
        engine.sample()
    assert told(engine, "SELECT prompt_tokens, tokens, certain FROM profinfer_request") == [
        (8, 3, 0), (9, 2, 1),
    ]  # fmt: skip


def test_what_was_emptied_and_begins_in_its_middle_was_restored_or_shared() -> None:
    """A prompt's tokens may be of several sequences: that is not recorded."""
    engine = Engine()
    for _ in range(2):
        engine.change("clear")
        engine.compute([(0, 0, 8, 1, 1)])
        for _ in range(2):
            engine.sample()
        for position in (8, 9):
            engine.compute([(0, position, 1, 1, 1), (1, position, 1, 1, 1)])
            for _ in range(2):
                engine.sample()
    found = told(engine, "SELECT sequence, cached_tokens, tokens, certain FROM profinfer_request "
                 "ORDER BY request_id")  # fmt: skip
    assert found == [(0, 0, 3, 1), (1, None, 2, 0)] * 2


def test_a_copied_prompt_without_logits_is_no_answer() -> None:
    """What is said to everybody first; then a question of one token."""
    engine = Engine()
    engine.compute([(0, 0, 20, 0, 0)])
    engine.change("copy", source=0, sequence=1, begin=-1, end=-1)
    engine.compute([(1, 20, 1, 1, 1)])
    engine.sample()
    engine.compute([(1, 21, 1, 1, 1)])
    engine.sample()
    found = told(engine, "SELECT prompt_tokens, cached_tokens, tokens, shared_prefill_of, certain "
                 "FROM profinfer_request")  # fmt: skip
    assert found == [(20, 0, 0, None, 1), (1, 20, 2, None, 1)]


def test_short_texts_to_embed_may_be_test_batches() -> None:
    engine = Engine()
    for tokens in (2, 2, 5):
        engine.change("clear")
        engine.compute([(0, 0, tokens, tokens, 1)])
    assert told(engine, "SELECT kind, prompt_tokens, certain FROM profinfer_request") == [
        ("warm-up", 2, 0), ("warm-up", 2, 0), ("request", 5, 1),
    ]  # fmt: skip


def test_a_prompt_with_an_image_in_it_is_not_told() -> None:
    """Of some models all of its tokens are at one position."""
    engine = Engine()
    engine.remove(0, 0)
    engine.compute([(0, 0, 5, 0, 0)])
    engine.compute([(0, 5, 1, 0, 0)] * 9)
    engine.compute([(0, 8, 4, 1, 1)])
    engine.sample()
    assert 1 not in [row[-1] for row in told(engine)]


def test_what_may_go_on_when_recording_ends_is_not_complete() -> None:
    complete = "SELECT complete FROM profinfer_request ORDER BY request_id"
    for reason, expected in (("the target ended", 1), ("the duration is over", 0)):
        engine = Engine()
        for sequence in (0, 0, 1):
            engine.remove(sequence, 0)
            engine.compute([(sequence, 0, 4, 1, 1)])
            engine.sample()
            engine.compute([(sequence, 4, 1, 1, 1)])
            engine.sample()
        engine.at_end["reason"] = reason
        assert told(engine, complete) == [(1,), (expected,), (expected,)]
        # Long after that another one is asked for: so long it cannot have waited.
        engine.now += 2_000 * MS
        engine.compute([(2, 0, 4, 1, 1)])
        engine.sample()
        assert told(engine, complete) == [(1,), (1,), (1,), (expected,)]


def test_a_failed_call_is_said() -> None:
    engine = Engine()
    begin = engine._tick()
    engine.ubatch(engine._tick(), engine._tick(), [(0, 0, 4, 1, 1)])
    engine.call("decode", begin, engine._tick(), {"context": CONTEXT}, result=1)
    assert [row[-1] for row in told(engine)] == [0]


def test_a_call_that_was_lost_is_said() -> None:
    engine = Engine()
    engine.compute([(0, 0, 4, 1, 1)])
    engine.call("sample", engine._tick(), engine._tick(), {"context": CONTEXT}, is_lost=True)
    engine.compute([(0, 4, 1, 1, 1)])
    found = told(engine, "SELECT certain, reason FROM profinfer_request")
    assert found == [(0, "records were lost before, within or after it")]
