"""Records taken out of a capture, and the capture that an honest recorder would have made then.

A ring that was full stays full until it is drained: before the next record of that ring comes
through there is a drain. What was lost is said as bpf/recorder/losses.c says it: per CPU and kind,
from the last look or the newest record drained of that CPU to the last record lost. The handlers
end a walk at the first record of it that does not fit; its graphs are then of unknown structure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from profinfer.records.capture import LOSS_ENTRY, Frame, FrameKind, json_frame
from profinfer.records.dtypes import RECORD, STRUCTURE_RECORD, WIDE_HEADER, WIDE_SIZE, Kind, Records

_STRUCTURE_RING = -1


@dataclass(frozen=True)
class Wide:
    """A record of the structure ring."""

    ts: int
    tid: int
    cpu: int
    kind: int
    data: bytes


class Whole:
    """A complete capture, taken to pieces."""

    def __init__(self, frames: list[Frame]) -> None:
        self.first, self.last = frames[0], frames[-1]
        assert (self.first.kind, self.last.kind) == (FrameKind.START, FrameKind.END)
        by_kind = {kind: [f for f in frames if f.kind == kind] for kind in FrameKind}
        assert not by_kind[FrameKind.LOSS]
        self.clocks = by_kind[FrameKind.CLOCK]
        self.names = _merged(by_kind[FrameKind.NAMES])
        self.backends = _merged(by_kind[FrameKind.BACKENDS])
        data = b"".join(frame.data for frame in by_kind[FrameKind.RECORDS])
        records = np.frombuffer(data, RECORD)
        self.records: Records = records[np.argsort(records["ts"], kind="stable")]
        data = b"".join(frame.data for frame in by_kind[FrameKind.WIDE])
        rows = [data[at : at + WIDE_SIZE] for at in range(0, len(data), WIDE_SIZE)]
        heads = np.frombuffer(data, np.dtype([("h", WIDE_HEADER), ("_", f"V{WIDE_SIZE - 16}")]))
        self.wide = sorted(
            (Wide(int(h["ts"]), int(h["tid"]), int(h["cpu"]), int(h["kind"]), row)
             for h, row in zip(heads["h"], rows, strict=True)),
            key=lambda w: w.ts,
        )  # fmt: skip

    def at(self, *kinds: Kind) -> list[int]:
        """Places of the records of some kinds: from 0 those of the CPUs, then the wide ones."""
        narrow = np.flatnonzero(np.isin(self.records["kind"], kinds)).tolist()
        return narrow + [len(self.records) + i for i, w in enumerate(self.wide) if w.kind in kinds]

    def on(self, cpu: int) -> list[int]:
        """Places of the records that came through the ring of one CPU."""
        return list(np.flatnonzero(self.records["cpu"] == cpu))

    def without(self, places: Iterable[int], drains: Iterable[int] = ()) -> list[Frame]:
        """The capture in which there was no room for these records."""
        return _Lossy(self, set(places)).frames(sorted(drains))


def _merged(frames: list[Frame]) -> list[Frame]:
    names: dict[str, str] = {}
    for frame in frames:
        names |= json.loads(frame.data)
    return [json_frame(frames[0].kind, frames[0].ts, names)] if frames else []


class _Lossy:
    def __init__(self, whole: Whole, gone: set[int]) -> None:
        self.whole = whole
        count = len(whole.records)
        self.records = whole.records.copy()
        self.lost = np.zeros(count, np.bool_)
        self.lost[[place for place in gone if place < count]] = True
        self.kept = ~self.lost
        self.wide_lost = [whole.wide[place - count] for place in sorted(gone) if place >= count]
        self.wide_kept = [w for i, w in enumerate(whole.wide) if count + i not in gone]
        self._break_off_walks()

    def _break_off_walks(self) -> None:
        """Of a walk nothing comes after the first record that is lost; it is counted alone. The
        tensors that were not sent go with the next walk."""
        waiting: list[Wide] = []
        for walk in [w for w in self.whole.wide if w.kind == Kind.STRUCTURE]:
            key = int(np.frombuffer(walk.data, STRUCTURE_RECORD, 1)["structure"][0])
            again = [Wide(key, walk.tid, w.cpu, w.kind, _stamped(w.data, key)) for w in waiting]
            nodes = (self.records["kind"] == Kind.NODE) & (self.records["b"] == key)
            mine = [w for w in self.whole.wide if w.tid == walk.tid and key <= w.ts <= walk.ts
                    and w.kind in (Kind.TENSOR, Kind.STRUCTURE)]  # fmt: skip
            lost = [w.ts for w in mine if w in self.wide_lost]
            lost += self.records["ts"][nodes & self.lost].tolist()
            end = min(lost, default=1 << 63)
            self.lost &= ~(nodes & (self.records["ts"] > end))
            self.kept &= ~(nodes & (self.records["ts"] >= end))
            after = [w for w in mine if w.ts >= end]
            self.wide_lost = [w for w in self.wide_lost if w not in after or w.ts == end]
            self.wide_kept = [w for w in self.wide_kept if w not in after]
            if lost:
                self.records["b"][
                    (self.records["kind"] == Kind.GRAPH_BEGIN) & (self.records["b"] == key)
                ] = 0
            self.wide_kept += again
            waiting = [w for w in after if w.kind == Kind.TENSOR]
        self.wide_kept.sort(key=lambda w: w.ts)

    def frames(self, drains: list[int]) -> list[Frame]:
        whole = self.whole
        end = whole.last.ts
        times = sorted({t for t in [*drains, *self._forced(drains)] if t <= end} | {end})
        frames = [whole.first, *whole.clocks[:1], *whole.names, *whole.backends]
        counts: dict[tuple[int, int], int] = {}
        read = whole.first.ts
        stamps = self.records["ts"]
        for time in times:
            span = (stamps >= read if read > whole.first.ts else True) & (stamps < time)
            if time == end:
                span |= stamps >= time
            rows = self.records[span & self.kept]
            wide = [w for w in self.wide_kept if (read <= w.ts or read == whole.first.ts)
                    and (w.ts < time or time == end)]  # fmt: skip
            if wide:
                frames.append(Frame(FrameKind.WIDE, time, b"".join(w.data for w in wide)))
            entries = self._entries(read, time if time < end else 1 << 63, counts, rows)
            if len(entries):
                frames.append(Frame(FrameKind.LOSS, time, entries.tobytes()))
            # Ring by ring: within a frame only the records of one CPU are in order.
            rows = rows[np.argsort(rows["cpu"], kind="stable")]
            frames.append(Frame(FrameKind.RECORDS, time, rows.tobytes()))
            read = time
        return [*frames, *whole.clocks[1:], whole.last]

    def _forced(self, drains: list[int]) -> list[int]:
        """Times by which a ring that was full has been drained again."""
        events = [(int(r["ts"]), int(r["cpu"]), bool(lost))
                  for r, lost, kept in zip(self.records, self.lost, self.kept, strict=True)
                  if lost or kept]  # fmt: skip
        events += [(w.ts, _STRUCTURE_RING, False) for w in self.wide_kept]
        events += [(w.ts, _STRUCTURE_RING, True) for w in self.wide_lost]
        forced: list[int] = []
        full: dict[int, int] = {}
        for ts, ring, lost in sorted(events):
            if lost:
                full[ring] = ts
            elif ring in full:
                since = full.pop(ring)
                if not any(since < t <= ts for t in (*drains, *forced[-3:])):
                    forced.append(ts)
        return forced

    def _entries(
        self, read: int, until: int, counts: dict[tuple[int, int], int], rows: Records
    ) -> Records:
        gone = self.records[self.lost & (self.records["ts"] < until)]
        found = [(int(r["cpu"]), int(r["kind"]), int(r["ts"])) for r in gone]
        found += [(w.cpu, w.kind, w.ts) for w in self.wide_lost if w.ts < until]
        entries = []
        for cpu, kind in sorted({(cpu, kind) for cpu, kind, _ in found}):
            stamps = sorted(ts for c, k, ts in found if (c, k) == (cpu, kind))
            if len(stamps) == counts.get((cpu, kind), 0):
                continue
            counts[cpu, kind] = len(stamps)
            since = read
            if kind < Kind.TENSOR:
                since = max(since, int(rows["ts"][rows["cpu"] == cpu].max(initial=0)))
            assert since <= stamps[-1], "a ring that was full has been drained since"
            entries.append((cpu, kind, len(stamps), since, stamps[-1]))
        return np.array(entries, LOSS_ENTRY)


def _stamped(data: bytes, ts: int) -> bytes:
    return ts.to_bytes(8, "little") + data[8:]
