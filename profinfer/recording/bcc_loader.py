"""BCC, in a process of its own: it compiles and loads for the recorder, hands over what the kernel
now holds, and ends. LLVM, which takes 130 MB, never comes into anything that records.
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
from dataclasses import dataclass
from typing import Any, NoReturn

from profinfer.built import BPF
from profinfer.errors import KernelError

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
        message, fds, _, _ = socket.recv_fds(ours, _MAX_ANSWER, _MAX_FDS)
    os.waitpid(pid, 0)
    text = os.pread(said, os.lseek(said, 0, os.SEEK_END), 0).decode("utf-8", "replace")
    os.close(said)
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
            answer.send(json.dumps({"missing": str(error)}).encode())
            os._exit(0)
        flags = [f"-I{BPF}", "-Wno-everything"]
        flags += [f"-D{name}={value}" for name, value in _macros(source).items()]
        bpf = bcc.BPF(src_file=os.fsencode(BPF / _FILES[source["name"]]), cflags=flags)
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
        content = json.dumps({"programs": list(loaded), "refused": refused})
        socket.send_fds(answer, [content.encode()], fds)
    except BaseException as error:
        answer.send(json.dumps({"error": str(error)}).encode())
    os._exit(0)


def _explain(errors: str) -> KernelError:
    """What went wrong in a compilation, from what BCC printed."""
    if re.search(r"chdir|kernel headers|file not found", errors, re.IGNORECASE):
        return KernelError(
            f"BCC found no kernel headers for the running kernel {platform.release()}",
            "make setup installs the distribution's headers and links them",
        )
    tail = "\n".join(errors.strip().splitlines()[-8:])
    return KernelError(f"BCC could not compile or load the handlers:\n{tail}")
