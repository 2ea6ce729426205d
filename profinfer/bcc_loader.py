"""BCC, in a process of its own: it compiles and loads for the recorder, hands over what the kernel
now holds, and ends. LLVM, which takes 130 MB, never comes into anything that records.
"""

from __future__ import annotations

import array
import json
import os
import platform
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from profinfer.errors import KernelError

_BPF_DIR = Path(__file__).resolve().parent.parent / "bpf"
_FILES = {"profinfer": "bcc.c", "launch": "launch.c", "scheduler": "scheduler.c"}
_MAX_FDS = 250
_MAX_ANSWER = 1 << 20


Source = dict[str, Any]
"""What is to be loaded (bpf/recorder/source.h): "name" of a source in bpf/, "programs" with their
bpf_prog_type, "maps" that are asked for, "parameters", max_entries of maps ("entries"), and
"transport", where it has one."""


@dataclass(frozen=True)
class Loaded:
    """Descriptors by name."""

    programs: dict[str, int]
    maps: dict[str, int]

    def close(self) -> None:
        """Closes all of them."""
        for fd in [*self.programs.values(), *self.maps.values()]:
            os.close(fd)


def load_bcc(source: Source) -> Loaded:
    """Compiles a source and loads its programs. KernelError with the reason when BCC is missing,
    cannot compile it, or the kernel refuses one of them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    said = os.memfd_create("bcc-stderr", os.MFD_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _child(theirs, said, source)
    theirs.close()
    with ours:
        message, ancillary, _, _ = ours.recvmsg(_MAX_ANSWER, socket.CMSG_SPACE(4 * _MAX_FDS))
    os.waitpid(pid, 0)
    text = os.pread(said, os.lseek(said, 0, os.SEEK_END), 0).decode("utf-8", "replace")
    os.close(said)
    fds = array.array("i")
    for _, _, data in ancillary:
        fds.frombytes(data)
    answer: dict[str, Any] = json.loads(message) if message else {"error": "it was killed"}
    if "missing" in answer:
        raise KernelError(
            f"BCC's Python binding cannot be imported: {answer['missing']}",
            "apt-get install python3-bpfcc, then make setup",
        )
    if "error" in answer:
        raise _explain(text or answer["error"])
    names = answer["programs"]
    loaded = Loaded(
        dict(zip(names, fds[: len(names)], strict=True)),
        dict(zip(source["maps"], fds[len(names) :], strict=True)),
    )
    for text in answer["refused"].values():
        loaded.close()
        raise _explain(text)
    return loaded


def _macros(source: Source) -> dict[str, int]:
    macros: dict[str, int] = dict(source["parameters"])
    macros |= {f"ENTRIES_{name}": count for name, count in source["entries"].items()}
    if "transport" in source:
        macros["TRANSPORT"] = source["transport"]
    if platform.machine() == "x86_64":
        macros["STORES_IN_ORDER"] = 1
    return macros


def _child(answer: socket.socket, said: int, source: Source) -> NoReturn:
    """What libbcc and clang print goes to `said`, to be shown only when they fail."""
    try:
        os.dup2(said, 1)
        os.dup2(said, 2)
        try:
            import bcc
        except ImportError as error:
            _send(answer, {"missing": str(error)}, [])
            os._exit(0)
        flags = [f"-I{_BPF_DIR}", "-Wno-everything"]
        flags += [f"-D{name}={value}" for name, value in _macros(source).items()]
        bpf = bcc.BPF(src_file=os.fsencode(_BPF_DIR / _FILES[source["name"]]), cflags=flags)
        loaded: dict[str, int] = {}
        refused: dict[str, str] = {}
        for name, kind in source["programs"].items():
            before = os.lseek(said, 0, os.SEEK_END)
            try:
                loaded[name] = bpf.load_func(name.encode(), kind).fd
            except Exception as error:
                text = os.pread(said, 1 << 16, max(before, os.lseek(said, 0, os.SEEK_END) - 4096))
                refused[name] = text.decode("utf-8", "replace") or str(error)
        fds = [*loaded.values(), *(bpf[name.encode()].map_fd for name in source["maps"])]
        _send(answer, {"programs": list(loaded), "refused": refused}, fds)
    except BaseException as error:
        _send(answer, {"error": str(error)}, [])
    os._exit(0)


def _send(answer: socket.socket, content: dict[str, object], fds: list[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    answer.sendmsg([json.dumps(content).encode()], rights)


def _explain(errors: str) -> KernelError:
    """What went wrong in a compilation, from what BCC printed."""
    if re.search(r"chdir|kernel headers|file not found", errors, re.IGNORECASE):
        return KernelError(
            f"BCC found no kernel headers for the running kernel {platform.release()}",
            "make setup installs the distribution's headers and links them",
        )
    tail = "\n".join(errors.strip().splitlines()[-8:])
    return KernelError(f"BCC could not compile or load the handlers:\n{tail}")
