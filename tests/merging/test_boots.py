"""Traces of other boots and machines are aligned by REALTIME, or as the user says."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.errors import TraceError, UsageError
from profinfer.trace_processor import open_trace
from tests.captures import BASE, Capture
from tests.merging.android import BOOTED
from tests.merging.inputs import FIRST, OPERATORS, STEPS, US, engine, merged, write_engine
from tests.sql.harness import foreign_trace
from tests.support import Row

LATER_NS = 86_400_000_000_000
"""The second machine was booted a day after the first."""
_FIRST_UBATCHES = """
SELECT coalesce(m.raw_id, 0), min(s.ts), count()
FROM slice AS s
JOIN thread_track AS tt ON s.track_id = tt.id
JOIN thread AS t USING (utid)
LEFT JOIN machine AS m ON t.machine_id = m.id
WHERE s.category = 'ubatch' GROUP BY 1 ORDER BY 2"""


def _other() -> Capture:
    return engine(uname="6.1.0-other", pid=100)


def _ubatches(path: Path) -> list[Row]:
    """The first ubatch of each machine, and how many it has."""
    with open_trace(path, trace_processor="wasm") as session:
        assert session.import_errors() == []
        rows = session.query(_FIRST_UBATCHES).rows()
        operators = session.query("SELECT count() FROM slice WHERE category = 'operator'").rows()
    assert operators == [(2 * OPERATORS,)]
    return rows


def test_realtime_aligns_two_machines(tmp_path: Path) -> None:
    one = write_engine(tmp_path / "one.pftrace", engine())
    # What the recording calls BASE was a day, and 1.5 s, later there.
    two = write_engine(tmp_path / "two.pftrace", _other(), booted=BOOTED + LATER_NS)
    for inputs in ((one, two), (two, one)):
        report = merged(tmp_path / "both.pftrace", *inputs)
        rows = _ubatches(tmp_path / "both.pftrace")
        # The host is the machine that was booted first when the other would begin before it.
        assert [row[2] for row in rows] == [STEPS, STEPS]
        (_, first, _), (_, second, _) = rows
        assert isinstance(first, int)
        assert isinstance(second, int)
        assert second - first == LATER_NS
        assert first == BASE + FIRST + 60 * US or second == BASE + FIRST + 60 * US
        assert any("kernels or machines differ" in line for line in report.lines)


def test_how_far_off_it_can_be_is_what_the_snapshots_scatter_and_drift(tmp_path: Path) -> None:
    one = write_engine(tmp_path / "one.pftrace", engine())
    # REALTIME was set 3 ms ahead while recording: nobody knows when.
    two = write_engine(tmp_path / "two.pftrace", _other(), booted=BOOTED + LATER_NS, gain=3_000_000)
    report = merged(tmp_path / "both.pftrace", one, two)
    [line] = [line for line in report.lines if "shifted by" in line]
    assert "scatter by 1.500 ms" in line
    (_, first, _), (_, second, _) = _ubatches(tmp_path / "both.pftrace")
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert abs(second - first - LATER_NS) <= 1_500_000


def test_an_unknown_drift_is_not_taken_for_none(tmp_path: Path) -> None:
    """A day lies between recordings that are too short to tell by how much a clock drifts."""
    one = write_engine(tmp_path / "one.pftrace", engine())
    two = write_engine(tmp_path / "two.pftrace", _other(), booted=BOOTED + LATER_NS)
    report = merged(tmp_path / "both.pftrace", one, two)
    [line] = [line for line in report.lines if "shifted by" in line]
    assert "500 ppm are assumed" in line
    # Of each clock 500 ppm of a day, less the recordings themselves.
    assert "off by up to 86.4" in line, line


def test_an_offset_is_taken_to_the_nanosecond(tmp_path: Path) -> None:
    one = write_engine(tmp_path / "one.pftrace", engine())
    two = write_engine(tmp_path / "two.pftrace", _other(), booted=BOOTED + LATER_NS)
    report = merged(tmp_path / "both.pftrace", one, two, offset_ns=-12_500_000_001)
    (_, second, _), (_, first, _) = _ubatches(tmp_path / "both.pftrace")
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert second - first == -12_500_000_001
    assert any("as --offset says" in line for line in report.lines)


def test_machines_keep_their_own_processes(tmp_path: Path) -> None:
    """The same pid on both: two processes, and all their events."""
    one = write_engine(tmp_path / "one.pftrace", engine())
    two = write_engine(tmp_path / "two.pftrace", _other(), booted=BOOTED + LATER_NS)
    merged(tmp_path / "both.pftrace", one, two)
    with open_trace(tmp_path / "both.pftrace", trace_processor="wasm") as session:
        rows = session.query(
            "SELECT pid, count(DISTINCT upid), count(DISTINCT coalesce(machine_id, 0)) "
            "FROM process WHERE pid = 100 GROUP BY 1"
        ).rows()
        assert rows == [(100, 2, 2)]


def test_boot_ids_decide_before_clocks(tmp_path: Path) -> None:
    one = write_engine(tmp_path / "one.pftrace", engine(boot="a"))
    two = write_engine(tmp_path / "two.pftrace", engine(boot="b"))
    report = merged(tmp_path / "both.pftrace", one, two)
    assert any("their boot ids differ" in line and "machine 1" in line for line in report.lines)
    same = write_engine(
        tmp_path / "same.pftrace", engine(boot="a", pid=200), booted=BOOTED + LATER_NS
    )
    report = merged(tmp_path / "both.pftrace", one, same)
    assert any("they say so (boot id)" in line for line in report.lines)
    assert any("REALTIME by 86400.000 s" in line for line in report.lines)


@pytest.mark.parametrize("inodes", [(1, None), (1, 2)])
def test_process_ids_of_different_namespaces_are_not_mixed(
    tmp_path: Path, inodes: tuple[int | None, ...]
) -> None:
    traces = []
    for number, inode in enumerate(inodes):
        capture = engine(boot="a", pid=100 + number)
        if inode:
            capture.at_start["pid_namespace"] = {"inode": inode, "strangers_from": 1_000_000_000}
        traces.append(write_engine(tmp_path / f"{number}.pftrace", capture))
    with pytest.raises(TraceError, match="ids of different PID namespaces") as error:
        merged(tmp_path / "both.pftrace", *traces)
    assert "--pid=host" in error.value.hint
    system = foreign_trace(tmp_path / "foreign.pftrace")
    with pytest.raises(TraceError, match="ids of different PID namespaces"):
        merged(tmp_path / "both.pftrace", traces[0], system, same_boot=True)


def test_what_cannot_be_placed_is_refused(tmp_path: Path) -> None:
    one = write_engine(tmp_path / "one.pftrace", engine())
    other = foreign_trace(tmp_path / "foreign.pftrace")
    with pytest.raises(TraceError, match="cannot be aligned") as error:
        merged(tmp_path / "both.pftrace", one, other)
    assert "--offset" in error.value.hint
    assert not (tmp_path / "both.pftrace").exists()
    merged(tmp_path / "both.pftrace", one, other, same_boot=True)
    with open_trace(tmp_path / "both.pftrace", trace_processor="wasm") as session:
        rows = session.query("SELECT ts, dur FROM slice WHERE name = 'RunTask'").rows()
    assert rows == [(10, 10)]


def test_an_offset_needs_two_boots(tmp_path: Path) -> None:
    one = write_engine(tmp_path / "one.pftrace", engine(boot="a"))
    two = write_engine(tmp_path / "two.pftrace", engine(boot="a", pid=200))
    with pytest.raises(UsageError, match="these are of one"):
        merged(tmp_path / "both.pftrace", one, two, offset_ns=5)
    other = write_engine(tmp_path / "other.pftrace", engine(boot="b"))
    with pytest.raises(UsageError, match="begins before"):
        merged(tmp_path / "both.pftrace", one, other, offset_ns=-2 * BASE)
