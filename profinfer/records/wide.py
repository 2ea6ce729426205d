"""Wide records waiting for their time, and the token runs of ubatches among them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from profinfer.records.dtypes import TOKEN_RUN, TOKENS_RECORD, WIDE_SIZE, Kind, Records

_HEADER = struct.Struct("<QIHBB")
"""struct wide_header"""


class WideQueue:
    """Wide records in, (kind, bytes) out in order of time. There are few: objects are fine."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, bytes]] = []
        self._runs: dict[tuple[int, int], list[Records]] = {}

    def add(self, data: bytes) -> None:
        """Whole wide records, as they stand in the ring."""
        for at in range(0, len(data), WIDE_SIZE):
            ts, tid, _, kind, _ = _HEADER.unpack_from(data, at)
            raw = data[at : at + WIDE_SIZE]
            if kind == Kind.TOKENS:
                record = np.frombuffer(raw, TOKENS_RECORD, 1)[0]
                runs = record["run"][: min(int(record["runs"]), len(record["run"]))]
                self._runs.setdefault((tid, ts), []).append(runs)
            else:
                self._waiting.append((ts, kind, raw))

    def take(self, horizon: int | None) -> Iterator[tuple[int, bytes]]:
        """Takes out the records, of all kinds but tokens, older than `horizon` (None: all)."""
        self._waiting.sort(key=lambda entry: entry[0])
        count = sum(horizon is None or ts < horizon for ts, _, _ in self._waiting)
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        for _, kind, raw in ready:
            yield kind, raw

    def runs(self, tid: int, ts: int) -> Records:
        """Takes out the token runs of the ubatch that began on `tid` at `ts` (none: empty)."""
        parts = self._runs.pop((tid, ts), [])
        return np.concatenate(parts) if parts else np.empty(0, TOKEN_RUN)
