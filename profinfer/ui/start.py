"""What the Perfetto UI does when it opens a trace: `startupCommands` and more, for its address.

The workspace "Inference" has what one looks for first, from the top: requests and their sequences,
tokens per second, backends, the threads that compute with their state and counters, who took
their CPUs, the recorder; closed, the target's other threads. Everything else stays where it was.
Tracks are found by the numbers of threads and processes: no name of theirs is in the address.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from profinfer.errors import ProfinferError
from profinfer.trace_processor import SQL_DIR, Session, query
from profinfer.trace_processor.expand import expand

PORT = 9010
"""Where `profinfer ui` serves unless that is taken: links lead there."""
WORKSPACE = "Inference"
_DEFAULT_WORKSPACE = "Default Workspace"  # the UI's own name for it
_GROUP = "Inference"
_TOP = "Requests|Sequences|Tokens per second|Backends"
_RECORDER = "ProfInfer recorder"
_WAITS = "Blocked in|CPU taken by"

_MOST_THREADS, _MOST_IDLE, _MOST_INTRUDERS = 64, 200, 5
_MARGIN = 0.02
"""Of what is zoomed to, left free on both sides."""
_INTRUDERS_SECONDS = 30.0

_PROCESSES = "SELECT DISTINCT pid FROM profinfer_process ORDER BY pid"
_COMPUTING = """
SELECT t.tid FROM _graph_event AS g JOIN thread AS t USING (utid)
GROUP BY g.utid ORDER BY count() DESC"""
_IDLE = """
SELECT t.tid FROM thread AS t JOIN profinfer_process AS p USING (upid)
WHERE t.tid > 0 AND NOT t.utid IN (SELECT utid FROM _graph_event)
AND t.utid IN (SELECT utid FROM sched)
ORDER BY t.tid"""
_REQUEST = """
SELECT ts, dur FROM profinfer_request WHERE kind = 'request' AND dur > 0 ORDER BY ts LIMIT 1"""
_SLOWEST = """
SELECT ts, tpot, request_id, step FROM profinfer_token
WHERE complete AND tpot > 0 ORDER BY tpot DESC LIMIT 1"""
_BOUNDS = "SELECT start_ts, end_ts FROM trace_bounds"
_INTRUDERS = """
INCLUDE PERFETTO MODULE profinfer.scheduling.preemptions;
SELECT coalesce(q.pid, t.tid) FROM profinfer_preemption AS p
JOIN thread AS t ON t.utid = p.taker_utid LEFT JOIN process AS q ON q.upid = t.upid
WHERE NOT p.is_own
GROUP BY 1 ORDER BY sum(p.dur) DESC"""
_MODULES = """
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;"""


def quoted(path: str) -> str:
    """For an address; names of files need not be text."""
    return quote(path, errors="surrogateescape")


def command(name: str, *args: str) -> dict[str, object]:
    """One of the UI's own commands."""
    return {"id": f"dev.perfetto.{name}", "args": list(args)}


Commands = list[dict[str, object]]


@dataclass
class Start:
    """How a trace opens."""

    commands: Commands = field(default_factory=list)
    begin: int | None = None
    """What to zoom to, in the trace's own time."""
    end: int | None = None
    first: int = 0
    """The bounds of the trace: what goes beyond them the UI does not zoom to."""
    last: int = (1 << 63) - 1

    def arguments(self, ts: int | None = None, dur: int | None = None) -> str:
        """For the address. `ts` and `dur`: of a slice that is selected and zoomed to."""
        parts = [f"startupCommands={quote(json.dumps(self.commands, separators=(',', ':')))}"]
        begin, end = self.begin, self.end
        if ts is not None and dur is not None:
            parts.append(f"ts={ts}&dur={dur}")
            begin, end = ts - max(dur, 1), ts + 2 * max(dur, 1)
        if begin is not None and end is not None:
            margin = round((end - begin) * _MARGIN)
            begin, end = max(begin - margin, self.first), min(end + margin, self.last)
            parts.append(f"visStart={begin}&visEnd={end}")
        return "&".join(parts)


def start(session: Session) -> Start:
    """How this trace opens; of one that ProfInfer has not recorded, as the UI opens any."""
    session.query(_MODULES)
    pids = _numbers(session, _PROCESSES)
    if not pids:
        return Start()
    computing = _numbers(session, _COMPUTING)[:_MOST_THREADS]
    idle = _numbers(session, _IDLE)[:_MOST_IDLE]
    made = Start()
    for made.first, made.last in _rows(session, _BOUNDS):
        pass
    for ts, dur in _rows(session, _REQUEST):
        made.begin, made.end = ts, ts + dur
    slowest = _rows(session, _SLOWEST)
    made.commands = _workspace(pids, computing, _intruders(session), idle)
    for ts, tpot, request, step in slowest:
        # Beside its flag the UI shows the first 16 characters.
        ms = f"{tpot / 1e6:.{int(tpot < 1e9)}f}"
        note = f"slowest {ms} ms: the token of request {request}, step {step}"
        made.commands.append(command("AddNoteAtTimestamp", str(ts), note))
    made.commands.append(command("RunQueryAndShowTab", first_table("stalls")))
    return made


def _intruders(session: Session) -> list[int]:
    """Processes that took most CPU time; none where that takes too long, which ends the session."""
    try:
        found = session.query(_INTRUDERS, timeout=_INTRUDERS_SECONDS)
    except ProfinferError:
        return []
    return [int(row[0] or 0) for row in found][:_MOST_INTRUDERS]


def _workspace(
    pids: Sequence[int], computing: Sequence[int], intruders: Sequence[int], idle: Sequence[int]
) -> Commands:
    """Makes and shows the workspace."""
    of = f"^.* ({_any(pids)})"
    threads = []
    if computing:
        # Counters by themselves: so the threads' operators lie beside each other.
        counters = f"{of} > (?!{_WAITS})[^>]* \\(({_any(computing)})\\)$"
        threads = [_copy(each, with_ancestors=True) for each in (_threads(of, computing), counters)]
    if intruders:
        # Processes, or kernel threads; the paths of processes' threads have one more arrow.
        threads.append(_copy(f"^(Kernel threads > )?(?:(?! > ).)* ({_any(intruders)})$"))
    commands = _filled(of, threads, is_one=len(pids) == 1)
    if idle:
        commands += [
            command("SwitchWorkspace", _DEFAULT_WORKSPACE),
            _copy(_threads(of, idle), with_ancestors=True),
            command("SwitchWorkspace", WORKSPACE),
        ]
    return commands


def any_workspace() -> Commands:
    """The workspace of any trace: by what the converter calls threads that compute."""
    threads = _copy("^.* > compute [0-9]+ [0-9]+$", with_ancestors=True)
    return _filled("^.* [0-9]+", [threads], is_one=False)


def _filled(of: str, threads: Commands, *, is_one: bool) -> Commands:
    return [
        command("CreateWorkspace", WORKSPACE),
        _copy(f"{of} > {_GROUP} > ({_TOP})$", with_ancestors=not is_one),
        *threads,
        _copy(f"{of} > {_GROUP} > {_RECORDER}$", with_ancestors=True),
        command("SwitchWorkspace", WORKSPACE),
        command(
            "ExpandTracksByRegex",
            f"^({_TOP})$|{of}( > {_GROUP}( > ({_TOP}|{_RECORDER}))?)?$",
            "path",
        ),
    ]


def _copy(path: str, *, with_ancestors: bool = False) -> dict[str, object]:
    name = "CopyTracksToWorkspaceByRegex" + ("WithAncestors" if with_ancestors else "")
    return command(name, path, WORKSPACE, "path")


def _threads(of: str, tids: Iterable[int]) -> str:
    """Tracks end in their thread's number, in parentheses if they have names of their own."""
    return f"{of} > (.* ({_any(tids)})|({_WAITS}) \\(({_any(tids)})\\))$"


def _any(numbers: Iterable[int]) -> str:
    return "|".join(map(str, numbers))


def first_table(name: str, *, inline: bool = True) -> str:
    """A ready query up to its first table: a tab of the UI shows one. `inline`: self-contained."""
    path = query.resolve(name)
    statements = query.split_statements(query.read(path))
    until = next(i for i, each in enumerate(statements) if each.returns_rows)
    first = "".join(f"{each.text};\n" for each in statements[: until + 1])
    # The tab shows how its SQL begins.
    return f"-- {name}: {query.describe(path)}\n" + (expand(first, SQL_DIR) if inline else first)


def _rows(session: Session, sql: str) -> list[tuple[int, ...]]:
    return [tuple(int(value or 0) for value in row) for row in session.query(sql)]


def _numbers(session: Session, sql: str) -> list[int]:
    return [row[0] for row in _rows(session, sql)]
