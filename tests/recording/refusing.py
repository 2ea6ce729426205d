"""A kernel that refuses some bpf(2) commands:

    python -m tests.recording.refusing COMMAND=ERRNO... -- PROGRAM ARGUMENT...

A filter stands before the system call of PROGRAM and all its children. ERRNO 0 is a command that
seems to be done, and is not.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

_BPF = {"x86_64": 321, "aarch64": 280}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _FIRST_ARGUMENT = 0, 16  # in struct seccomp_data
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


def _statement(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def refuse(commands: dict[int, int]) -> None:
    """From now on bpf(2) does none of these commands in this process: it returns the error."""
    code = [
        _statement(_LOAD, _NUMBER),
        _statement(_EQUAL, _BPF[platform.machine()], 0, 2 * len(commands) + 1),
        _statement(_LOAD, _FIRST_ARGUMENT),
    ]
    for command, error in commands.items():
        code += [_statement(_EQUAL, command, 0, 1), _statement(_RETURN, _ERRNO | error)]
    code.append(_statement(_RETURN, _ALLOW))
    program = ctypes.create_string_buffer(b"".join(code))
    filter_ = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) or libc.prctl(
        _PR_SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.create_string_buffer(filter_), zero, zero
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    end = sys.argv.index("--")
    pairs = (word.partition("=") for word in sys.argv[1:end])
    refuse({int(command): int(error) for command, _, error in pairs})
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])  # noqa: S606
