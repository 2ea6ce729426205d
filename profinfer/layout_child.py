"""Confine a throw-away process, in which an engine then describes itself.

Run as `python -I -S layout_child.py` by `profinfer.layout_sandbox`: a JSON request on standard
input, lines of JSON on standard output. By the time foreign code is loaded this process is
somebody else, without capabilities, network, environment or much of anything; an engine for
another processor is loaded by an emulator that this process becomes after that.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

# -I leaves our own folder out of the path, and a later import could not be read any more.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from profinfer import layout_experiments
from profinfer.layout_engine import emit

_PACKAGE = Path(__file__).resolve().parent.parent
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 1 << 27, 1 << 28, 1 << 29, 1 << 30
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def limit_resources(seconds: float) -> None:
    """Bound processor time, memory, file size and core dumps."""
    cpu = int(seconds) + 2
    for what, value in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, 16 << 30),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NOFILE, 256),
    ):
        _, hard = resource.getrlimit(what)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))
    with contextlib.suppress(OSError):
        # Should it fill the memory all the same, it is the first to go.
        Path("/proc/self/oom_score_adj").write_text("1000")


def isolate(root: bool) -> list[str]:
    """New network, IPC and process namespaces; returns notes on what was refused."""
    uid, gid = os.geteuid(), os.getegid()
    extra = 0 if root else _CLONE_NEWUSER
    for flags in (_CLONE_NEWNET | _CLONE_NEWPID | _CLONE_NEWIPC, _CLONE_NEWNET):
        if _libc.unshare(flags | extra) == 0:
            break
    else:
        return ["the library was examined without a network namespace of its own"]
    if extra:
        for name, text in (
            ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"),
        ):  # fmt: skip
            with contextlib.suppress(OSError):
                Path("/proc/self", name).write_text(text)
    if flags & _CLONE_NEWPID:
        _supervise()
    return []


def _supervise() -> None:
    """Go on in a grandchild; the child between is the first process of the new namespace.

    With that one dies whatever the library started, wherever it moved itself. It is not the one
    that goes on because signals, and so crashes, mean something else to a first process.
    """
    first = os.fork()
    if first:
        signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
        _follow(first)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    worker = os.fork()
    if worker:
        _follow(worker)


def _follow(child: int) -> NoReturn:
    """End as that child ends."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    # An exit status cannot carry a signal: shells' convention.
    os._exit(128 - code if code < 0 else code)


def drop_privileges(uid: int | None, gid: int | None) -> None:
    """Become that user (None: stay), with no capability, for good. OSError when refused."""
    if uid is not None and gid is not None:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capabilities could not be dropped")
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs was refused")
    # Cleared by every change of user, so it comes last.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def emulate(emulator: dict[str, Any], request: dict[str, Any]) -> NoReturn:
    """Become the emulator, with the experiments for its program. OSError when refused.

    Its root and our code are named by descriptors that were opened while we might.
    """
    for descriptor in (request["channel"], *request["descriptors"], *emulator["descriptors"]):
        os.set_inheritable(descriptor, True)
    root, package = (f"/proc/self/fd/{d}" for d in emulator["descriptors"])
    stdin = os.memfd_create("request")
    os.write(stdin, json.dumps(request).encode())
    os.lseek(stdin, 0, os.SEEK_SET)
    os.dup2(stdin, 0)
    python = [f"{root}/{emulator['python']}", "-I", "-S", "-B"]
    script = f"{package}/profinfer/{Path(layout_experiments.__file__).name}"
    os.execv(emulator["command"], [emulator["command"], "-L", root, *python, script])  # noqa: S606


def main() -> int:
    """Read the request, confine this process, experiment; 0 when the lines say it all."""
    request = json.load(sys.stdin)
    # The library's own prints must not reach the channel.
    channel = os.dup(1)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    emulator = request.get("emulator")
    try:
        # Opened while we may: the new user need not reach the directory, only read what is in it.
        directories = [_open(directory) for directory in request["directories"]]
        if emulator:
            emulator["descriptors"] = [_open(emulator["root"]), _open(_PACKAGE)]
        os.fchdir(directories[0])
        limit_resources(request["seconds"])
        notes = isolate(os.geteuid() == 0)
        drop_privileges(request["uid"], request["gid"])
        for index, name in request["objects"]:
            try:
                os.close(os.open(name, os.O_RDONLY, dir_fd=directories[index]))
            except OSError as error:
                emit(channel, {"unreadable": f"{name}: {error.strerror}"})
                return 0
        request |= {"channel": channel, "descriptors": directories, "notes": notes}
        if emulator:
            emulate(emulator, request)
        layout_experiments.run(request)
    except OSError as error:
        emit(channel, {"error": str(error)})
    return 0


def _open(directory: str | Path) -> int:
    return os.open(directory, os.O_PATH | os.O_DIRECTORY)


if __name__ == "__main__":
    status = main()
    # Not through the library's destructors, which may do anything.
    os._exit(status)
