"""`make demo-server`, as a user runs it."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess

import pytest

from tests.conftest import REPO, require
from tests.support import require_recording


@pytest.mark.timeout(400)
def test_the_demo_shows_requests_and_who_delayed_them() -> None:
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    require_recording()
    done = subprocess.run(
        [REPO / "tools/demo_server.sh"], capture_output=True, text=True, check=False, timeout=350
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r" 0 lost \(the target ended\)", done.stderr), done.stderr
    told = [
        json.loads(line)
        for line in (REPO / "out/demo-server.json").read_text().splitlines()
        if line.startswith("{")
    ]
    assert len(told) == 12
    assert sum(client["has_left"] for client in told) == 2
    answers = [answer for client in told for answer in client["answers"]]
    assert len(answers) == 11
    assert sum(answer["cache_n"] > 50 for answer in answers) == 3
    tables = re.split(r"^== (?!rec)", done.stdout, flags=re.MULTILINE)[1:]
    assert [table.split()[0] for table in tables] == ["requests", "who_delayed"]
    for table in tables:
        assert len(table.splitlines()) > 6, table
