"""However a recording ends, its trace is readable and its probes are gone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD, Kind
from tests.recording.helpers import (
    BAD_STATS,
    BY_THREAD,
    PROFINFER,
    TIMEOUT,
    Truth,
    assert_matches,
    attached,
    ending,
    finish,
    number,
    record,
    rows,
    target,
    truths,
    wait_until,
)

SHORT = ("--threads", 2, "--layers", 3, "--prompt", 7, "--decode", 5)
STAYS = ("--hold", 60_000)


def test_a_duration_ends_the_recording_of_a_running_process(built: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    with (
        target(built, tmp_path, *SHORT, *STAYS) as known,
        attached(known, trace, "--duration", 3) as recorder,
    ):
        known.release()
        truth = known.truth()
        finish(recorder)
        assert not known.is_probed()
        assert known.process.poll() is None
    assert_matches(trace, truth, "barrier")
    end = ending(trace)
    assert end["reason"] == "the duration is over"
    assert 3 <= float(str(end["seconds"])) < 5


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_recording_and_leaves_the_process_alone(
    signum: signal.Signals, built: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    with (
        target(built, tmp_path, *SHORT, *STAYS) as known,
        attached(known, trace) as recorder,
    ):
        known.release()
        truth = known.truth()
        recorder.send_signal(signum)
        finish(recorder)
        assert not known.is_probed()
        assert known.process.poll() is None
    assert_matches(trace, truth, "barrier")
    assert ending(trace)["reason"] == f"{signum.name} received"


def test_the_end_of_the_process_ends_the_recording(built: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    with (
        target(built, tmp_path, *SHORT, "--exit-code", 7) as known,
        attached(known, trace) as recorder,
    ):
        known.release()
        truth = known.truth()
        finish(recorder)
        assert known.process.wait(timeout=TIMEOUT) == 7
    assert_matches(trace, truth, "barrier")
    assert ending(trace)["reason"] == "the target ended"


def test_a_killed_recorder_leaves_a_capture_and_no_probes(built: Path, tmp_path: Path) -> None:
    trace, capture = tmp_path / "t.pftrace", tmp_path / "t.pftrace.capture"
    with (
        target(built, tmp_path, *SHORT[:4], "--decode", 251, "--work-us", 101) as known,
        attached(known, trace, "--poll", 0.05) as recorder,
    ):
        started = capture.stat().st_size
        known.release()
        wait_until("some records", lambda: capture.stat().st_size > started + 65536)
        recorder.kill()
        recorder.wait(timeout=TIMEOUT)
        assert known.process.poll() is None
        wait_until("probes gone", lambda: not known.is_probed())
        truth = known.truth()
        assert known.process.wait(timeout=TIMEOUT) == 0
    assert capture.stat().st_mode & 0o777 == 0o600
    again = subprocess.run(
        [*PROFINFER, "record", "-o", str(trace), "--pid", str(os.getpid())],
        capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    assert again.returncode == 7
    # The file for the trace is there already, and empty.
    assert f"hint: profinfer convert --force {capture} {trace} makes its trace" in again.stderr
    convert = [*PROFINFER, "convert", "--force", str(capture), str(trace)]
    subprocess.run(convert, check=True, timeout=TIMEOUT)
    counts, stats = rows(trace, BY_THREAD, BAD_STATS)
    operators = {tid: number(n) for category, tid, n in counts if category == "operator"}
    emitted = {thread["tid"]: thread["extra"] + thread["fused"] for thread in truth["threads"]}
    assert operators.keys() == emitted.keys()
    assert all(0 < operators[tid] < emitted[tid] for tid in emitted)
    assert stats == []
    assert ending(trace)["reason"] == "profinfer record has ended"


def test_a_forked_child_and_a_process_with_the_same_library_are_not_recorded(
    built: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    with (
        target(built, tmp_path, *SHORT, "--fork") as known,
        attached(known, trace) as recorder,
    ):
        known.release()
        other = subprocess.run(
            [str(built / "known"), *map(str, SHORT)],
            capture_output=True, text=True, check=True, timeout=TIMEOUT,
        )  # fmt: skip
        child, parent = known.truth(), known.truth()
        finish(recorder)
    assert (child["child"], parent["child"]) == (0, child["pid"])
    [stranger] = truths(other.stdout)
    assert stranger["calls"] == child["calls"] == parent["calls"]
    assert_matches(trace, parent, "barrier")


def captured(raw: Path) -> Counter[str]:
    """The records of a capture by kind."""
    found: Counter[str] = Counter()
    for frame in read_capture(raw):
        if frame.kind == FrameKind.RECORDS:
            kinds, counts = np.unique(np.frombuffer(frame.data, RECORD)["kind"], return_counts=True)
            for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
                found[Kind(kind).name.lower()] += count
    return found


def emitted(truth: Truth) -> dict[str, int]:
    """The records that the handlers must have made, by kind."""
    calls, ubatches = truth["calls"], sum(truth["ubatches"].values())
    return {
        "operator": calls["ggml_cpu_extra_compute_forward"],
        "fused": calls["ggml_compute_forward_rms_norm_mul_fused"],
        "barrier": calls["ggml_barrier"],
        "graph_begin": calls["ggml_backend_graph_compute_async"],
        "graph_end": calls["ggml_backend_graph_compute_async"],
        "ubatch_begin": ubatches,
        "ubatch_end": ubatches,
    }


PROBED_STUBS = ("--probes", "stub")
"""Their records go through the rings of CPUs."""


# With the first every ring overflows between two drains; with the second some do, on some drains.
@pytest.mark.parametrize(
    ("poll", "options"), [(1, ("--decode", 499)), (0.05, ("--decode", 31, "--work-us", 907))]
)
def test_every_record_that_does_not_fit_is_counted_and_no_slice_pretends_otherwise(
    poll: float, options: tuple[object, ...], built: Path, tmp_path: Path
) -> None:
    trace, raw = tmp_path / "t.pftrace", tmp_path / "t.raw"
    done = record(
        trace,
        ["--level", "barrier", "--ring-size", "4K", "--poll", poll, "--raw", raw, *PROBED_STUBS],
        [built / "known", "--threads", 2, "--layers", 1, *options],
    )
    [truth] = truths(done.stdout)
    _, lost, windows, operators, whole, stats = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.recording.losses; "
        "INCLUDE PERFETTO MODULE profinfer.operators.runs;",
        "SELECT kind, sum(lost) FROM profinfer_loss GROUP BY 1",
        "SELECT first_ts, ts FROM profinfer_loss",
        "SELECT count() FROM slice WHERE category IN ('operator', 'operator.incomplete')",
        "SELECT ts, ts + dur FROM slice WHERE category = 'operator'",
        BAD_STATS,
    )
    assert {str(name) for name, _ in stats} <= {
        "traced_buf_trace_writer_packet_loss",
        "traced_buf_sequence_packet_loss",
    }
    losses = Counter({str(kind): number(count) for kind, count in lost})
    drained = captured(raw)
    expected = emitted(truth)
    assert {kind: drained[kind] + losses[kind] for kind in expected} == expected
    assert losses["operator"] > 0 if poll == 1 else whole
    unattributed = int(str(ending(trace)["unattributed"]))
    [(shown,)] = operators
    assert number(shown) + unattributed == drained["operator"] + drained["fused"]
    begins, ends = np.array(whole, np.int64).reshape(-1, 2).T
    for first, last in windows:
        assert not np.any((begins <= number(last)) & (ends >= number(first)))


def test_the_trace_of_a_raw_capture_is_the_recorded_one_byte_for_byte(
    built: Path, tmp_path: Path
) -> None:
    trace, raw, again = tmp_path / "t.pftrace", tmp_path / "t.raw", tmp_path / "again.pftrace"
    options = ("--backend2", "--sequences", 3, "--prompt", 13)
    record(trace, ["--level", "barrier", "--raw", raw], [built / "known", *SHORT, *options])
    subprocess.run(
        [*PROFINFER, "convert", str(raw), str(again)], check=True, timeout=TIMEOUT
    )  # fmt: skip
    assert again.read_bytes() == trace.read_bytes()
    assert ending(again)["reason"] == "the target ended"
