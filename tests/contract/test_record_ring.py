"""The consumer of the record rings against a producer that follows bpf/records.h to the letter."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from profinfer.record_ring import RecordRings
from profinfer.records import RECORD, RING_HEAD

CPUS, SIZE = 3, 4096
SLOTS = SIZE // RECORD.itemsize


class Producer:
    """Writes records numbered by their `a`; can leave one unfinished."""

    def __init__(self) -> None:
        self.heads_fd, self.slots_fd = os.memfd_create("heads"), os.memfd_create("slots")
        os.ftruncate(self.heads_fd, 4096)
        os.ftruncate(self.slots_fd, CPUS * SIZE)
        self._numbers = [0] * CPUS

    def put(self, cpu: int, count: int, *, finished: bool = True) -> None:
        """`count` more records, as far as there is room; the rest are dropped."""
        for _ in range(count):
            if self._numbers[cpu] - self.head(cpu)[1] >= SLOTS:
                return
            number = self._numbers[cpu]
            self._numbers[cpu] += 1
            head = cpu * RING_HEAD.itemsize
            os.pwrite(self.heads_fd, np.uint64(number + 1).tobytes(), head)
            if finished:
                self.finish(cpu, number)

    def finish(self, cpu: int, number: int) -> None:
        row = np.zeros(1, RECORD)
        row["a"], row["cpu"], row["mark"] = number, cpu, (number // SLOTS + 1) % 256
        os.pwrite(self.slots_fd, row.tobytes(), cpu * SIZE + number % SLOTS * RECORD.itemsize)

    def head(self, cpu: int) -> tuple[int, int]:
        raw = os.pread(self.heads_fd, 16, cpu * RING_HEAD.itemsize)
        begun, taken = np.frombuffer(raw, "<u8").tolist()
        return begun, taken

    def close(self) -> None:
        os.close(self.heads_fd)
        os.close(self.slots_fd)


@pytest.fixture
def producer() -> Iterator[Producer]:
    made = Producer()
    yield made
    made.close()


def take(rings: RecordRings, cpu: int) -> tuple[list[int], bool]:
    drained = rings.drain(cpu)
    rows = drained.data.reshape(-1).view(RECORD)
    assert set(rows["cpu"].tolist()) <= {cpu}
    return rows["a"].tolist(), drained.stopped


def test_every_record_comes_once_and_in_order_over_more_than_256_laps(producer: Producer) -> None:
    rings = RecordRings(producer.heads_fd, producer.slots_fd, CPUS, SIZE)
    seen: list[int] = []
    step = 0
    while len(seen) < 300 * SLOTS:
        step = step * 5 % 127 + 1
        producer.put(1, step)
        numbers, stopped = take(rings, 1)
        assert not stopped
        seen += numbers
    assert seen == list(range(len(seen)))
    assert producer.head(1) == (len(seen), len(seen))
    assert take(rings, 0) == take(rings, 2) == ([], False)
    rings.close()


def test_a_full_ring_gives_what_it_held_and_has_room_again(producer: Producer) -> None:
    rings = RecordRings(producer.heads_fd, producer.slots_fd, CPUS, SIZE)
    producer.put(2, 37)
    assert take(rings, 2) == (list(range(37)), False)
    producer.put(2, SLOTS + 11)
    assert take(rings, 2) == (list(range(37, 37 + SLOTS)), False)
    producer.put(2, 1)
    assert take(rings, 2) == ([37 + SLOTS], False)
    rings.close()


@pytest.mark.parametrize("before", [0, 5, SLOTS - 1, SLOTS, 255 * SLOTS + 3, 256 * SLOTS])
def test_the_drain_stops_at_an_unfinished_record(producer: Producer, before: int) -> None:
    rings = RecordRings(producer.heads_fd, producer.slots_fd, CPUS, SIZE)
    for _ in range(before):
        producer.put(0, 1)
        rings.drain(0)
    producer.put(0, 2)
    producer.put(0, 1, finished=False)
    producer.put(0, 3)
    assert take(rings, 0) == ([before, before + 1], True)
    assert take(rings, 0) == ([], True)
    producer.finish(0, before + 2)
    assert take(rings, 0) == (list(range(before + 2, before + 6)), False)
    rings.close()
