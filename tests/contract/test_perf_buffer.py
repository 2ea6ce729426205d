"""The parser of perf buffers against bytes laid out as include/uapi/linux/perf_event.h says."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profinfer.perf_buffer import parse, sample_dtype

LOST, THROTTLE, SAMPLE = 2, 5, 9


def sample(record: bytes, misc: int = 0) -> bytes:
    """What the kernel makes of a record: a length that counts the padding, and the padding."""
    size = -(-(4 + len(record)) // 8) * 8
    body = struct.pack("<I", size - 4) + record
    return struct.pack("<IHH", SAMPLE, misc, 8 + size) + body.ljust(size, b"\xee")


def lost(count: int) -> bytes:
    return struct.pack("<IHHQQ", LOST, 0, 24, 77, count)


def other() -> bytes:
    return struct.pack("<IHHQQQ", THROTTLE, 0, 32, 9, 9, 9)


@pytest.mark.parametrize(("size", "stride"), [(4, 16), (32, 48), (320, 336), (12, 24), (13, 32)])
def test_a_sample_has_the_size_that_the_kernel_gives_it(size: int, stride: int) -> None:
    assert sample_dtype(size).itemsize == len(sample(bytes(size))) == stride


pieces = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.integers(0, 255)),
        st.tuples(st.just("lost"), st.integers(0, 2**63 - 1)),
        st.tuples(st.just("other"), st.just(0)),
    ),
    max_size=40,
)


@given(pieces, st.sampled_from([4, 32, 320]), st.integers(0, 2**16 - 1))
def test_records_come_out_whole_and_in_order_between_anything_else(
    parts: list[tuple[str, int]], size: int, misc: int
) -> None:
    data, expected, missing = b"", [], 0
    for kind, value in parts:
        if kind == "record":
            expected.append(bytes([value]) * size)
            data += sample(expected[-1], misc)
        elif kind == "lost":
            missing += value
            data += lost(value)
        else:
            data += other()
    records, found = parse(np.frombuffer(data, np.uint8), sample_dtype(size))
    assert records.shape == (len(expected), size)
    assert [row.tobytes() for row in records] == expected
    assert found == missing
