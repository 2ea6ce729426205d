"""The real recording that is checked in, and what a trace of it says.

data/known.raw.gz is a recording of tests/double (two threads, two sequences, two backends). Made
again by, in a folder with what tests/double/build.sh builds and `poll: 0.002` in run.yaml:

    profinfer record --config run.yaml --level barrier --raw known.raw -o known.pftrace -- \\
        ./known --threads 2 --layers 2 --prompt 7 --ubatch 5 --decode 5 --sequences 2 \\
        --backend2 --final-barrier > truth.json
    gzip -9n known.raw
    python -m tests.converting.recordings     # from the root: writes data/known.json anew

data/truth.json is what the engine itself counted in that run.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from profinfer.records.capture import LOSS_ENTRY, Frame, FrameKind, read_capture
from profinfer.records.dtypes import RECORD
from profinfer.trace_processor import Session, open_trace
from tests.captures import convert

DATA = Path(__file__).parent / "data"


def raw() -> bytes:
    """The bytes of the capture."""
    return gzip.decompress((DATA / "known.raw.gz").read_bytes())


def frames(folder: Path) -> list[Frame]:
    """Its frames."""
    path = folder / "known.raw"
    path.write_bytes(raw())
    return list(read_capture(path))


def boundaries(data: bytes) -> list[int]:
    """Where each frame begins, and the end."""
    at, found = 16, []
    while at < len(data):
        found.append(at)
        at += 24 + int.from_bytes(data[at + 16 : at + 24], "little")
    return [*found, at]


def lossy(whole: list[Frame], lose: slice, kinds: tuple[int, ...]) -> tuple[list[Frame], int]:
    """The same recording with some records of one frame lost, and how many those are.

    `lose` are the places in time within the largest frame of records, on CPU 0.
    """
    sizes = [len(f.data) if f.kind == FrameKind.RECORDS else 0 for f in whole]
    at = int(np.argmax(sizes))
    records = np.frombuffer(whole[at].data, RECORD)
    chosen = np.zeros(len(records), np.bool_)
    chosen[np.argsort(records["ts"], kind="stable")[lose]] = True
    chosen &= np.isin(records["kind"], kinds)
    gone = records[chosen]
    entries = []
    for cpu, kind in sorted({(int(r["cpu"]), int(r["kind"])) for r in gone}):
        mine = gone[(gone["cpu"] == cpu) & (gone["kind"] == kind)]["ts"]
        entries.append((cpu, kind, len(mine), int(gone["ts"].min()), int(mine.max())))
    loss = Frame(FrameKind.LOSS, whole[at].ts, np.array(entries, LOSS_ENTRY).tobytes())
    rest = Frame(FrameKind.RECORDS, whole[at].ts, records[~chosen].tobytes())
    return [*whole[:at], loss, rest, *whole[at + 1 :]], len(gone)


_COUNTS = {
    "slices": "SELECT category, count() FROM slice "
              "WHERE category NOT GLOB 'structure.*' GROUP BY 1 ORDER BY 1",
    "operators": "SELECT op, count() FROM profinfer_operator GROUP BY 1 ORDER BY 1",
    "slices by operator": "SELECT name, count() FROM profinfer_operator_slice "
                          "GROUP BY 1 ORDER BY 1",
    "threads per operator": "SELECT thread_count, count() FROM profinfer_operator GROUP BY 1",
    "graphs": "SELECT backend || ' of ' || node_count, count() FROM profinfer_graph "
              "LEFT JOIN profinfer_structure USING (structure_id) GROUP BY 1 ORDER BY 1",
    "ubatches": "SELECT phase, sum(tokens) FROM profinfer_ubatch GROUP BY 1 ORDER BY 1",
    "requests": "SELECT sequence, prompt_tokens || ' + ' || verified_tokens FROM profinfer_request "
                "ORDER BY 1",
    "structures": "SELECT structure_id, node_count FROM profinfer_structure ORDER BY 1",
    "tensors": "SELECT kind, count() FROM profinfer_tensor GROUP BY 1 ORDER BY 1",
    "edges": "SELECT op, count() FROM profinfer_edge JOIN profinfer_tensor USING (tensor_id) "
             "GROUP BY 1 ORDER BY 1",
    "inside barriers": "SELECT thread_count, count() FROM profinfer_inside_barrier GROUP BY 1",
    "incomplete": "SELECT 'operators', count() FROM profinfer_operator WHERE NOT complete",
    "times": "SELECT 'operator ns', sum(dur) FROM profinfer_operator_slice UNION ALL "
             "SELECT 'wait ns', sum(wait_dur) FROM profinfer_operator_slice UNION ALL "
             "SELECT 'graph ns', sum(dur) FROM profinfer_graph UNION ALL "
             "SELECT 'ubatch ns', sum(dur) FROM profinfer_ubatch",
}  # fmt: skip


def counts(session: Session, sql: str) -> dict[str, Any]:
    """The first column of a query to its second."""
    modules = "".join(
        f"INCLUDE PERFETTO MODULE {name};"
        for name in (
            "profinfer.operators.inside_barriers",
            "profinfer.operators.runs",
            "profinfer.operators.totals",
            "profinfer.tokens.requests",
        )
    )
    return {str(key): value for key, value in session.query(modules + sql)}


def summary(trace: Path) -> dict[str, dict[str, Any]]:
    """What the trace says, in numbers."""
    with open_trace(trace, trace_processor="wasm") as session:
        assert session.import_errors() == []
        return {title: counts(session, sql) for title, sql in _COUNTS.items()}


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        found = summary(convert(frames(Path(name)), Path(name) / "known.pftrace"))
        (DATA / "known.json").write_text(json.dumps(found, indent=1) + "\n")
