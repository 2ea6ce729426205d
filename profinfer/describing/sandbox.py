"""Start the throw-away process that loads a stranger's engine, and distrust what it says."""

from __future__ import annotations

import json
import os
import pwd
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from profinfer.built import describer
from profinfer.describing.layout import MAX_JSON, clean
from profinfer.describing.roots import Root
from profinfer.errors import ProbeError

_TAIL = 2048

#: Nothing of ours is inherited; devices are hidden, only the CPU is needed.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "HIP_VISIBLE_DEVICES": "-1",
    "ROCR_VISIBLE_DEVICES": "-1",
}


@dataclass(frozen=True)
class Request:
    """What is loaded, where, and what may be called."""

    objects: Sequence[tuple[int, str]]
    """Of each file a descriptor and its path in the root."""
    backends: int
    """Beside which of them loadable backends are looked for."""
    symbols: Mapping[str, tuple[int, int]]
    """Of each function which of the objects has it, and its virtual address there."""
    root: Root


@dataclass(frozen=True)
class Answer:
    """The last object the process wrote (untrusted), and what became of the process.

    `failure` is None when it ended by itself with status 0; `final` is False when the outcome
    may differ next time.
    """

    data: dict[str, Any] | None
    failure: str | None
    final: bool


def nobody() -> tuple[int, int]:
    """The user and group that own nothing."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


def ask(request: Request, *, uid: int, gid: int, timeout: float) -> Answer:
    """Let the engine describe itself for at most `timeout` seconds.

    When we are root that is as `uid` and `gid`, and in root's place as `nobody`, to whom root's
    files are given as copies where he cannot read them; otherwise as who we are. ProbeError when
    the process cannot be started at all.
    """
    with ExitStack() as stack:
        words, descriptors = _command(request, timeout, stack)
        if os.geteuid() != 0:
            # For where no root can be made.
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="profinfer-"))
            words += ["--uid", os.geteuid(), "--gid", os.getegid(), "--scratch", scratch]
        elif uid == 0:
            other, group = nobody()
            words += ["--uid", other, "--gid", group, "--copy"]
        else:
            words += ["--uid", uid, "--gid", gid or nobody()[1]]
        return _run([str(word) for word in words], descriptors, timeout)


def _command(request: Request, timeout: float, stack: ExitStack) -> tuple[list[object], list[int]]:
    """The command line of profinfer-confine but for the user, and what it inherits."""
    root = request.root
    confine, program, model = describer(root.machine.replace("x86-64", "x86_64"))
    words: list[object] = [confine, "--program", program, "--model", model]
    words += ["--seconds", max(1, round(timeout)), "--loader", root.loader]
    words += ["--backends", request.backends]
    descriptors = [descriptor for descriptor, _ in request.objects]
    try:
        for option, path in (("--root", root.folder), ("--mounts", root.mounts)):
            if path is not None:
                descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                stack.callback(os.close, descriptors[-1])
                words += [option, descriptors[-1]]
    except OSError as error:
        raise ProbeError(f"cannot enter {root.folder}: {error.strerror}") from None
    if root.emulator:
        words += ["--emulator", root.emulator, "--sysroot", root.sysroot]
    for descriptor, name in request.objects:
        words += ["--object", descriptor, name]
    for name, (index, value) in request.symbols.items():
        words += ["--symbol", name, index, f"{value:x}"]
    return words, descriptors


def _run(words: Sequence[str], descriptors: Sequence[int], timeout: float) -> Answer:
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            pass_fds=descriptors,
        )
    except OSError as error:
        raise ProbeError(f"cannot start {words[0]}: {error.strerror}") from None
    try:
        output, errors, ended = _collect(process, time.monotonic() + timeout)
    finally:
        _end(process)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    data = _last_object(output)
    if not ended:
        too_much = len(output) > MAX_JSON
        return Answer(data, "it wrote too much" if too_much else f"no answer within {timeout:g} s",
                      too_much)  # fmt: skip
    failure = _failure(process.returncode)
    if failure is None and data is None:
        failure = "it gave no answer"
    if failure is not None and (said := errors.decode("ascii", "replace").strip()):
        failure += f" ({clean(said.splitlines()[-1], 200)})"
    return Answer(data, failure, True)


def _failure(status: int) -> str | None:
    number = -status if status < 0 else status - 128
    if status == 0:
        return None
    try:
        return f"it was ended by {signal.Signals(number).name}"
    except ValueError:
        return f"it ended with status {status}"


def _collect(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes, bool]:
    """(standard output, tail of standard error, whether it ended in time and within bounds)."""
    output, errors = bytearray(), bytearray()
    if process.stdout is None or process.stderr is None:
        raise ProbeError("the process has no pipes")
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, output)
        selector.register(process.stderr, selectors.EVENT_READ, errors)
        while time.monotonic() < deadline:
            # Something it left behind may hold the pipes open: its own end counts.
            gone = process.poll() is not None
            ready = selector.select(0 if gone else min(0.05, max(0.0, deadline - time.monotonic())))
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                key.data.extend(data)
                del errors[:-_TAIL]
                if len(output) > MAX_JSON:
                    return bytes(output), bytes(errors), False
            if gone and not ready:
                return bytes(output), bytes(errors), True
            if not selector.get_map() and not gone:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(min(0.05, max(0.0, deadline - time.monotonic())))
    return bytes(output), bytes(errors), False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all it started; its supervisor, if it has one, does it thoroughly."""
    with suppress(ProcessLookupError):
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_object(output: bytes) -> dict[str, Any] | None:
    for line in reversed(output[:MAX_JSON].split(b"\n")[:-1][-16:]):
        with suppress(ValueError, RecursionError):
            data = json.loads(line)
            if isinstance(data, dict):
                return data
    return None
