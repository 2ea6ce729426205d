"""What several fields of a record share: words of 64 bits, by the column."""

from __future__ import annotations

import numpy as np

from profinfer.records.columns import I64, U64, Mask


def low(words: U64) -> I64:
    """The lower 32 bits."""
    return (words & np.uint64(0xFFFFFFFF)).astype(np.int64)


def word(words: U64, index: int) -> I64:
    """One of the four times 16 bits, from below."""
    return (words >> np.uint64(16 * index) & np.uint64(0xFFFF)).astype(np.int64)


def signed(values: I64, of: type[np.int16 | np.int32] = np.int16) -> I64:
    """The same bits as a number with a sign."""
    return values.astype(of).astype(np.int64)


def flag(words: U64, bit: int) -> Mask:
    """Whether a bit is set."""
    flags: Mask = words >> np.uint64(bit) & np.uint64(1) != 0
    return flags
