"""Wide records waiting for their time, and the token runs of ubatches among them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from profinfer.records import TOKEN_RUN, TOKENS_RECORD, WIDE_HEADER, WIDE_SIZE, Kind, Records


class WideQueue:
    """Wide records in, (kind, bytes) out in order of time. There are few: objects are fine."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, bytes]] = []
        self._runs: dict[tuple[int, int], list[Records]] = {}

    def add(self, data: bytes) -> None:
        """Whole wide records, as they stand in the ring."""
        for at in range(0, len(data), WIDE_SIZE):
            header = np.frombuffer(data, WIDE_HEADER, 1, at)[0]
            raw = data[at : at + WIDE_SIZE]
            if header["kind"] == Kind.TOKENS:
                record = np.frombuffer(raw, TOKENS_RECORD, 1)[0]
                runs = record["run"][: min(int(record["runs"]), len(record["run"]))]
                key = (int(header["tid"]), int(header["ts"]))
                self._runs.setdefault(key, []).append(runs)
            else:
                self._waiting.append((int(header["ts"]), int(header["kind"]), raw))

    def take(self, horizon: int | None) -> Iterator[tuple[int, bytes]]:
        """Takes out the tensor and structure records older than `horizon` (None: all)."""
        self._waiting.sort(key=lambda entry: entry[0])
        while self._waiting and (horizon is None or self._waiting[0][0] < horizon):
            _, kind, raw = self._waiting.pop(0)
            yield kind, raw

    def runs(self, tid: int, ts: int) -> Records:
        """Takes out the token runs of the ubatch that began on `tid` at `ts` (none: empty)."""
        parts = self._runs.pop((tid, ts), [])
        return np.concatenate(parts) if parts else np.empty(0, TOKEN_RUN)
