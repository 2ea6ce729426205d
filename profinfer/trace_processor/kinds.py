"""What a file is that is no trace of Perfetto's, and what to do with it."""

from __future__ import annotations

import re
from pathlib import Path

HEAD_BYTES = 512

_PERF = (
    "record on a clock that Perfetto's traces have: perf record -k CLOCK_BOOTTIME (hardware events:"
    " -k mono); then put both into one archive, zip both.zip TRACE perf.data, which query and ui"
    " open as one trace"
)
_UNPACK = "query and ui open an archive as one trace; to merge, unpack it and name the traces in it"
_FTRACE = "profinfer record --system records the kernel's events with the engine's, on one clock"
_KINDS = (
    (rb"ProfInferRaw", "a raw capture of ProfInfer's", "profinfer convert {path} {path}.pftrace"),
    (rb"PERFILE2", "perf's data", _PERF),
    (rb"PK\x03\x04", "a ZIP archive", _UNPACK),
    (rb"(?s).{257}ustar", "a TAR archive", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "compressed with Zstandard", "zstd -d {path}"),
    (rb"\x17\x08\x44tracing", "trace-cmd's data", _FTRACE),
    (rb"\s*[{\[]", "JSON", "JSON has no clocks to align by: record Chrome's system trace with"
     " Perfetto (ui.perfetto.dev, Record new trace) and save that"),
    (rb"# tracer: ", "text of ftrace's", _FTRACE),
    (rb"\s*\S.*?\s\d+(?:/\d+)?\s+(?:\[\d+\]\s+)?\d+\.\d+:\s+(?:\d+\s+)?[\w:-]+:",
     "text of perf script", f"take perf.data itself, not its text: {_PERF}"),
    (rb"GGUF", "a model", "record the program that computes with it, and name the trace"),
    (rb"\x7fELF", "a program or library", "profinfer doctor says what can be recorded of it"),
)  # fmt: skip
"""How each begins, what it is, and what to do."""


def kind_of(path: Path) -> tuple[str, str] | None:
    """What a file is, as far as its first bytes tell, and what to do with it; None for what may be
    a trace, or is unknown. OSError when it cannot be read."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for begin, what, hint in _KINDS:
        if re.match(begin, head):
            return what, hint.replace("{path}", str(path))
    return None
