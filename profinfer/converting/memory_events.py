"""Page faults, file reads, mappings and models as events of a trace.

A fault's address becomes a place in a file here, from what was mapped when: a fault lies between
two looks at the mappings and is looked up in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perfetto_protos import trace_pb2 as pb
from profinfer.describing.layout import printable
from profinfer.records.dtypes import RECORD, Kind, Records, join, select
from profinfer.trace import packets
from profinfer.trace.lanes import Lanes
from profinfer.trace.writer import Arguments, TraceWriter

_INSTANT = pb.TrackEvent.TYPE_INSTANT
_U64 = np.uint64
_INODE = (1 << 58) - 1
"""What of an inode's number a KIND_FILE_READ has room for."""
_MAX_ORDER = 19
_ADDRESS = _U64((1 << 56) - 1)
_NOWHERE, _NO_FILE = 0, (1 << 32) - 1
"""In place of a file's number: nothing is mapped; memory that is of no file."""
_OF_NO_FILE = 1
"""In a trace, as the place in file 0: memory of no file. What is not known is at place 0."""
_U = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class _Table:
    """Mappings at one look, sorted by address."""

    start: _U
    end: _U
    offset: _U
    file: _U

    def find(self, address: _U) -> tuple[_U, _U]:
        """(file, offset in it) of each address."""
        at = np.searchsorted(self.start, address, "right") - 1
        inside = (at >= 0) & (address < self.end.take(at, mode="clip"))
        file = np.where(inside, self.file.take(at, mode="clip"), _NOWHERE)
        offset = address - self.start.take(at, mode="clip") + self.offset.take(at, mode="clip")
        return file, np.where(file % _NO_FILE > 0, offset, 0)


def _table(mappings: dict[int, tuple[int, int, int]]) -> _Table:
    rows = [(start, *mappings[start]) for start in sorted(mappings)] or [(0, 0, 0, _NOWHERE)]
    return _Table(*np.array(rows, _U64).T)


def _place(address: _U, before: _Table, after: _Table) -> tuple[_U, _U]:
    """(file, offset in it) of faults between two looks; file 0 for memory of no file, where nothing
    is mapped, or where it is not known which of two: one that was mapped at the first look, and
    another at the second."""
    if before is after:
        file, offset = after.find(address)
    else:
        (first, first_offset), (file, offset) = before.find(address), after.find(address)
        gone = file == _NOWHERE
        differs = ~gone & (first != _NOWHERE) & ((first != file) | (first_offset != offset))
        file = np.where(gone, first, np.where(differs, _NOWHERE, file))
        offset = np.where(gone, first_offset, offset)
    of_file = file % _NO_FILE > 0
    return np.where(of_file, file, 0), np.where(
        of_file, offset, np.where(file == _NO_FILE, _OF_NO_FILE, 0)
    )


class MemoryEvents:
    """Takes what concerns memory, and writes it."""

    def __init__(self, writer: TraceWriter, lanes: Lanes, page_size: int) -> None:
        self._writer = writer
        self._lanes = lanes
        self._page_size = page_size
        self._files: dict[tuple[int, int], int] = {}
        self._now: dict[int, tuple[int, int, int]] = {}
        self._looks: list[tuple[int, _Table]] = []
        """When, and what was mapped then; the first is before any fault that is still to come."""
        self._told = 0
        self._faults = np.empty(0, RECORD)

    def mappings(self, ts: int, content: dict[str, Any]) -> None:
        """A look at the target's mappings."""
        for mapping in content["gone"]:
            start = int(mapping["start"])
            _, _, file = self._now.pop(start, (0, 0, _NO_FILE))
            if file != _NO_FILE:
                self._tell(ts, f"file {file}", "memory.unmapping", {
                    "file": file, "start": start,
                })  # fmt: skip
        for mapping in content["new"]:
            device, inode = int(mapping["device"]), int(mapping["inode"])
            start, end, offset = (int(mapping[name]) for name in ("start", "end", "offset"))
            if not inode:
                self._now[start] = (end, 0, _NO_FILE)
                continue
            file = self._file(ts, device, inode)
            self._now[start] = (end, offset, file)
            path = printable(str(mapping["path"]))
            self._tell(ts, path, "memory.mapping", {
                "file": file, "path": path, "start": start, "end": end, "offset": offset,
            })  # fmt: skip
        changed = content["gone"] or content["new"] or not self._looks
        table = _table(self._now) if changed else self._looks[-1][1]
        if self._looks and self._looks[-1][0] == ts:  # a look's further frame
            self._looks.pop()
        self._looks.append((ts, table))

    def models(self, ts: int, content: list[dict[str, Any]]) -> None:
        """What the headers of the models say."""
        for model in content:
            if not model.get("seen", True) and self._key(model) not in self._files:
                continue  # it was named, and not used
            file = self._file(ts, int(model["device"]), int(model["inode"]))
            tensors = model["tensors"]
            facts = {k: v for k, v in model.items() 
                     if k not in ("tensors", "device", "inode", "seen")}  # fmt: skip
            facts = {key: value for key, value in facts.items() if value is not None}
            self._tell(ts, str(model["path"]), "memory.model",
                       {"file": file, "tensor_count": len(tensors), **facts})  # fmt: skip
            for tensor in tensors:
                self._tell(ts, str(tensor["name"]), "memory.tensor", {"file": file, **tensor})

    def feed(self, records: Records, horizon: int, *, last: bool) -> None:
        """Records of faults and reads until `horizon`; with `last`, to the end."""
        reads = select(records, records["kind"] == Kind.FILE_READ)
        if len(reads):
            self._write_reads(reads)
        faults = join([self._faults, select(records, records["kind"] == Kind.FAULT)])
        looks = self._looks or [(0, _table({}))]
        newest = looks[-1][0]
        # A fault waits for the next look.
        ready = faults["ts"] <= _U64(newest) if not last else np.ones(len(faults), np.bool_)
        self._faults = select(faults, ~ready)
        if ready.any():
            self._write_faults(select(faults, ready), looks)
        # Those that wait are from after the newest look, and those to come from after the horizon.
        done = min(horizon, newest)
        kept = sum(ts <= done for ts, _ in looks) - 1
        del self._looks[: max(kept, 0)]

    def _key(self, model: dict[str, Any]) -> tuple[int, int]:
        return int(model["device"]), int(model["inode"]) & _INODE

    def _file(self, ts: int, device: int, inode: int) -> int:
        key = (device, inode & _INODE)
        number = self._files.get(key)
        if number is None:
            number = self._files[key] = len(self._files) + 1
            self._tell(ts, f"file {number}", "memory.file",
                       {"file": number, "device": device, "inode": inode})  # fmt: skip
        return number

    def _tell(self, ts: int, name: str, category: str, args: Arguments) -> None:
        # One per ns: instants at one time would nest.
        self._told = max(ts, self._told + 1)
        self._writer.event(_INSTANT, self._told, self._lanes.files, name, category, args)

    def _write_faults(self, faults: Records, looks: list[tuple[int, _Table]]) -> None:
        address = faults["a"] & _ADDRESS
        file, offset = np.zeros(len(faults), _U64), np.zeros(len(faults), _U64)
        next_look = np.searchsorted(np.array([ts for ts, _ in looks], _U64), faults["ts"], "left")
        for i in np.unique(next_look).tolist():
            some = np.flatnonzero(next_look == i)
            before, after = looks[max(i - 1, 0)][1], looks[min(i, len(looks) - 1)][1]
            file[some], offset[some] = _place(address[some], before, after)
        names = np.array([self._writer.name(n) for n in ("minor fault", "major fault")], np.uint32)
        self._writer.rows(
            packets.FAULT, faults["ts"], track=self._tracks(faults),
            category=self._writer.category("fault"), name=names.take(faults["b"] & _U64(1)),
            address=address, file=file, offset=offset,
        )  # fmt: skip

    def _write_reads(self, reads: Records) -> None:
        orders = reads["b"] >> _U64(58)
        if int(orders.max()) > _MAX_ORDER:
            raise ValueError("a read of more than 2 GiB at once")
        places = reads["a"] >> _U64(32)
        inodes = reads["b"] & _U64(_INODE)
        keys, which = np.unique(np.stack([places, inodes], 1), axis=0, return_inverse=True)
        ts = int(reads["ts"].min())
        files = np.array([self._file(ts, *key) for key in keys.tolist()], _U64)
        self._writer.rows(
            packets.FILE_READ, reads["ts"], track=self._tracks(reads),
            name=self._writer.name("file read"), category=self._writer.category("file_read"),
            file=files.take(which.reshape(-1)),
            offset=(reads["a"] & _U64(0xFFFFFFFF)) * _U64(self._page_size),
            bytes=_U64(self._page_size) << orders,
        )  # fmt: skip

    def _tracks(self, records: Records) -> _U:
        thread = self._lanes.threads.index(records["tid"], records["ts"])
        return self._lanes.thread_tracks().take(thread)
