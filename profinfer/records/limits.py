"""Numbers of bpf/records.h that are asked for where no record is read. Without numpy: what records
on this machine does without."""

from __future__ import annotations

SOURCES = 10
"""As many of a tensor's sources are recorded."""
COUNTER_MAX = 16
"""Counters in a reading."""
STRANGER = 1_000_000_000
"""Added to the numbers of threads and processes that have none in user space's PID namespace."""
