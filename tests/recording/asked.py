"""What the known engine is asked (tests/double/asked.c): each call is in the trace once, with its
arguments. Calls that it makes of others are none of their own, and what comes after the one that
does not return is whole."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tests.recording.helpers import Truth, rows

ROLES = {
    "memory": "context",
    "remove": "memory sequence begin end",
    "copy": "memory source sequence begin end",
    "keep": "memory sequence",
    "add": "memory sequence begin end delta",
    "divide": "memory sequence begin end divisor",
    "clear": "memory",
    "restore": "context sequence",
    "warmup": "context on",
    "process": "context type",
    "sample": "sampler context output",
}
"""By name, in the order of the arguments."""
_RESULTS = ("memory", "remove", "sample")
_CALLS = """
SELECT s.id, s.name, tid, ts, ts + dur, key, int_value
FROM slice AS s
JOIN thread_track AS t ON t.id = s.track_id
JOIN thread USING (utid)
LEFT JOIN args USING (arg_set_id)
WHERE category = 'call'
ORDER BY ts"""


LIFE = ("create", "free")
"""Of a context: once each."""


def assert_asked(trace: Path, truth: Truth, life: Collection[str] = LIFE) -> None:
    """The trace shows what the engine says that it was asked, and decoding beside; and of its
    context those of LIFE that were within the recording."""
    found: dict[object, tuple[object, object, int, int, dict[str, object]]] = {}
    for number, name, tid, begin, end, key, value in rows(trace, _CALLS)[0]:
        assert isinstance(begin, int)
        assert isinstance(end, int)
        _, _, _, _, args = found.setdefault(number, (name, tid, begin, end, {}))
        args[str(key).removeprefix("debug.")] = value
    of_context = {str(call[0]): call[4] for call in found.values() if call[0] in LIFE}
    calls = [call for call in found.values() if call[0] not in ("decode", "encode", *LIFE)]
    asked = sorted(truth["asked"], key=lambda row: row[2])
    assert [call[:2] for call in calls] == [(name, tid) for name, tid, *_ in asked]
    assert {name for name, *_ in calls} == {*ROLES}
    [context] = {values[0] for name, _, _, _, values, _ in asked if name == "memory"}
    for (_, _, begin, end, args), (name, _, before, after, values, result) in zip(
        calls, asked, strict=True
    ):
        assert before <= begin < end <= after
        roles = ROLES[name].split()
        has_result = name in _RESULTS
        if name == "remove" and values[0] == context:  # by its older name
            roles, has_result = ["context", *roles[1:]], False
        said = dict(zip(roles, values, strict=True))
        said |= {"result": result} if has_result else {}
        assert args == said, name
    assert {*of_context} == {*life}
    assert of_context.get("create", {}).get("result", context) == context
    assert of_context.get("free", {"context": context}) == {"context": context}
    # Their returns are not probed: exceptions may pass.
    encoded = [call for call in found.values() if call[0] == "encode"]
    assert len(encoded) == [name for name, *_ in asked].count("memory")
    decoded = [call for call in found.values() if call[0] == "decode"]
    assert len(decoded) == truth["llama_decode"]
    assert all(args == {"context": context} for *_, args in [*decoded, *encoded])
