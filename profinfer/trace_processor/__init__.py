"""Perfetto's Trace Processor: opening a trace and asking it in PerfettoSQL.

A native `trace_processor_shell` is used where there is one, else the WebAssembly build of it
in this process; `open_trace` gives the same `Session` for both.
"""

from profinfer.trace_processor.find import find_shell
from profinfer.trace_processor.result import Result, Value
from profinfer.trace_processor.session import SQL_DIR, Session, open_trace
from profinfer.trace_processor.trace_file import is_cut

__all__ = ["SQL_DIR", "Result", "Session", "Value", "find_shell", "is_cut", "open_trace"]
