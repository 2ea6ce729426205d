"""Page faults, file reads, mappings and models as events of a trace.

A fault's address becomes a place in a file here, because only the order of frames tells which
mappings were there when: a fault lies between two looks at them and is looked up in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perfetto_protos import trace_pb2 as pb
from profinfer import packets
from profinfer.lanes import Lanes
from profinfer.records import RECORD, Kind, Records, join, select
from profinfer.trace_writer import Arguments, TraceWriter

_INSTANT = pb.TrackEvent.TYPE_INSTANT
_U64 = np.uint64
_INODE = (1 << 58) - 1
"""What of an inode's number a KIND_FILE_READ has room for."""
_MAX_ORDER = 19
_ADDRESS = _U64((1 << 56) - 1)
_U = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class _Table:
    """Mappings at one look, sorted by address."""

    start: _U
    end: _U
    offset: _U
    file: _U

    def find(self, address: _U) -> tuple[_U, _U]:
        """(file, offset in it) of each address; file 0 where no file is mapped."""
        at = np.searchsorted(self.start, address, "right") - 1
        inside = (at >= 0) & (address < self.end.take(at, mode="clip"))
        file = np.where(inside, self.file.take(at, mode="clip"), 0)
        offset = address - self.start.take(at, mode="clip") + self.offset.take(at, mode="clip")
        return file, np.where(inside, offset, 0)


def _table(mappings: dict[int, tuple[int, int, int]]) -> _Table:
    rows = [(start, *mappings[start]) for start in sorted(mappings)] or [(0, 0, 0, 0)]
    return _Table(*np.array(rows, _U64).T)


class MemoryEvents:
    """Takes what concerns memory, and writes it."""

    def __init__(self, writer: TraceWriter, lanes: Lanes, page_size: int) -> None:
        self._writer = writer
        self._lanes = lanes
        self._page_size = page_size
        self._files: dict[tuple[int, int], int] = {}
        self._now: dict[int, tuple[int, int, int]] = {}
        self._before = self._table = _table({})
        self._looked = 0
        self._told = 0
        self._faults = np.empty(0, RECORD)

    def mappings(self, ts: int, content: dict[str, Any]) -> None:
        """A look at the target's mappings. Faults until then must have been fed."""
        self._write_faults(before=self._looked)
        for mapping in content["gone"]:
            self._now.pop(int(mapping["start"]), None)
        for mapping in content["new"]:
            file = self._file(ts, int(mapping["device"]), int(mapping["inode"]))
            start, end, offset = (int(mapping[name]) for name in ("start", "end", "offset"))
            self._now[start] = (end, offset, file)
            self._tell(ts, str(mapping["path"]), "memory.mapping", {
                "file": file, "path": str(mapping["path"]), "start": start, "end": end,
                "offset": offset,
            })  # fmt: skip
        self._before, self._table = self._table, _table(self._now)
        self._looked = ts

    def models(self, ts: int, content: list[dict[str, Any]]) -> None:
        """What the headers of the models say."""
        for model in content:
            file = self._file(ts, int(model["device"]), int(model["inode"]))
            tensors = model["tensors"]
            facts = {k: v for k, v in model.items() if k not in ("tensors", "device", "inode")}
            facts = {key: value for key, value in facts.items() if value is not None}
            self._tell(ts, str(model["path"]), "memory.model",
                       {"file": file, "tensor_count": len(tensors), **facts})  # fmt: skip
            for tensor in tensors:
                self._tell(ts, str(tensor["name"]), "memory.tensor", {"file": file, **tensor})

    def feed(self, records: Records, *, last: bool) -> None:
        """Records of any kind, up to some time; with `last`, to the end."""
        kind = records["kind"]
        reads = select(records, kind == Kind.FILE_READ)
        if len(reads):
            self._write_reads(reads)
        self._faults = join([self._faults, select(records, kind == Kind.FAULT)])
        self._write_faults(before=None if last else self._looked)

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

    def _write_faults(self, before: int | None) -> None:
        """Those until the last look, or all: where they lie is known by then."""
        if not len(self._faults):
            return
        if before is None:
            ready, self._faults = self._faults, np.empty(0, RECORD)
        else:
            old = self._faults["ts"] <= _U64(before)
            ready, self._faults = select(self._faults, old), select(self._faults, ~old)
        if not len(ready):
            return
        address = ready["a"] & _ADDRESS
        file, offset = self._table.find(address)
        file_before, offset_before = self._before.find(address)
        gone = (file == 0) & (file_before != 0)
        file, offset = np.where(gone, file_before, file), np.where(gone, offset_before, offset)
        # Another file at that address shortly before: which of the two it was is not known.
        differs = (file_before != 0) & ((file_before != file) | (offset_before != offset))
        file, offset = np.where(differs, 0, file), np.where(differs, 0, offset)
        names = np.array([self._writer.name(n) for n in ("minor fault", "major fault")], np.uint32)
        self._writer.encoded(
            packets.FAULT.encode(
                ready["ts"], track=self._tracks(ready), category=self._writer.category("fault"),
                name=names.take(ready["b"] & _U64(1)), address=address, file=file, offset=offset,
            )
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
        self._writer.encoded(
            packets.FILE_READ.encode(
                reads["ts"], track=self._tracks(reads), name=self._writer.name("file read"),
                category=self._writer.category("file_read"),
                file=files.take(which.reshape(-1)),
                offset=(reads["a"] & _U64(0xFFFFFFFF)) * _U64(self._page_size),
                bytes=_U64(self._page_size) << orders,
            )
        )  # fmt: skip

    def _tracks(self, records: Records) -> _U:
        tids, which = np.unique(records["tid"], return_inverse=True)
        tracks = np.array([self._lanes.thread(tid) for tid in tids.tolist()], _U64)
        return tracks.take(which)
