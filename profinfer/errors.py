"""Everything that can go wrong for a reason the user can act on.

Each class has its own exit code, listed in `profinfer --help`; the message says what failed and
on which object, the hint says what to do next. Anything else that escapes is a bug.
"""

from __future__ import annotations


class ProfinferError(Exception):
    """Base of every expected failure: `message`, an optional `hint`, and an `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ProfinferError):
    """A flag or a configuration key is wrong."""

    exit_code = 2


class PrivilegeError(ProfinferError):
    """A capability is missing."""

    exit_code = 3


class KernelError(ProfinferError):
    """The kernel or the system lacks something: BPF, tracefs, headers, BCC."""

    exit_code = 4


class TargetError(ProfinferError):
    """The target process or command cannot be profiled: absent, ended, or holds no ggml."""

    exit_code = 5


class ProbeError(ProfinferError):
    """The target's libraries have no probe point for what was asked."""

    exit_code = 6


class GraphNeeded(ProbeError):
    """The target's engine cannot be loaded and asked for its layout: a graph that it computes must
    be looked at, and none has been, or it told nothing."""


class OutputError(ProfinferError):
    """The output cannot be written: exists, not writable, disk full."""

    exit_code = 7


class TraceError(ProfinferError):
    """The input is not a trace or a raw capture, or it is damaged."""

    exit_code = 8


class QueryError(ProfinferError):
    """The SQL is wrong, or asks for what this trace cannot answer."""

    exit_code = 9


class TraceProcessorError(ProfinferError):
    """No usable Trace Processor, or it died."""

    exit_code = 10
