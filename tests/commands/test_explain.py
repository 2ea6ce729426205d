"""`profinfer explain` as a user types it."""

from __future__ import annotations

from pathlib import Path

from tests.captures import convert
from tests.commands.command import fails, profinfer
from tests.sql.engines import Engine


def test_the_verdict_is_printed(tmp_path: Path) -> None:
    trace = convert(Engine("other", 60).capture().frames(), tmp_path / "t.pftrace")
    ran = profinfer("explain", trace, cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    heads = [line.split("  ")[0] for line in ran.out.splitlines() if line[0] != " "]
    assert heads == ["speed", "bound by", "try", "ruled out", "unknown"]
    assert "spinner (500)" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


def test_what_is_no_trace_is_said(tmp_path: Path) -> None:
    fails(profinfer("explain", tmp_path / "none.pftrace", cwd=tmp_path), 8, "none.pftrace")
