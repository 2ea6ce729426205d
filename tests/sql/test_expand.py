"""A ready query runs without the package when it is expanded."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.trace_processor import SQL_DIR, open_trace, query
from profinfer.trace_processor.expand import expand


@pytest.mark.parametrize("file", query.ready_queries(), ids=lambda file: file.stem)
def test_expanded_query_answers_twice_in_a_session_without_our_package(file: Path) -> None:
    text = expand(query.read(file), SQL_DIR)
    assert "INCLUDE PERFETTO MODULE profinfer" not in text
    with open_trace(None, sql_dir=None) as session:
        first = query.run(session, text)
        again = query.run(session, text)
    assert first
    assert [table.columns for table in first] == [table.columns for table in again]
