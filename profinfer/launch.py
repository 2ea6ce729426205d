"""Launching a command so that probes are in place before an engine's first instruction runs.

The command and its descendants are stopped (SIGSTOP, by BPF) after each exec and whenever the
dynamic loader has changed the list of objects; user space looks, attaches, and lets it go on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from profinfer import kernel
from profinfer.elf import Elf
from profinfer.errors import KernelError, TargetError
from profinfer.loaded import cpu_count
from profinfer.perf_buffer import PerfBuffers
from profinfer.programs import KPROBE, TRACEPOINT, Programs, Source
from profinfer.stubs import AUDIT
from profinfer.target import executable_mappings, is_alive
from profinfer.uprobes import BY_EVENT

_BUFFER_SIZE = 4 * 4096
_PID_SIZE = 4
_FORK, _EXEC = "sched/sched_process_fork", "sched/sched_process_exec"


class Launched:
    """A command that runs under our eyes. `pid` is the command's own process."""

    def __init__(
        self, command: list[str], load: Callable[[Source], Programs], user: str | None = None,
        *, redirect: bool = False,
    ) -> None:  # fmt: skip
        """Starts it, stopped before its first instruction. TargetError when it cannot start.

        `load`: of a loader. `redirect`: with the audit library, for probes on its stubs.
        """
        audit = with_audit(os.environ.get("LD_AUDIT", "")) if redirect else ""
        cpus = cpu_count()
        self._bpf = load(launch_source(cpus))
        self._stops = PerfBuffers(
            self._bpf.maps["stops"], cpus, _BUFFER_SIZE, _PID_SIZE, wakeups=True
        )
        self._loader_program = self._bpf.program("on_objects_changed")
        self._family_events = [
            kernel.attach_tracepoint(self._bpf.program(name), event)
            for name, event in (("on_fork", _FORK), ("on_exec", _EXEC))
        ]
        self._loader_events: dict[int, int] = {}
        self.status: int | None = None
        """Wait status once it has ended."""
        self.pid = self._spawn(command, user, audit)

    @property
    def stops_fd(self) -> int:
        """Readable (epoll) when a process has been stopped."""
        return self._stops.poll_fd

    def _spawn(self, command: list[str], user: str | None, audit: str) -> int:
        account = _account(user) if user else None
        gate_read, gate_write = os.pipe()
        error_read, error_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(gate_write)
                os.close(error_read)
                os.set_inheritable(error_write, False)
                os.read(gate_read, 1)
                os.close(gate_read)
                if account:
                    os.initgroups(account.pw_name, account.pw_gid)
                    os.setgid(account.pw_gid)
                    os.setuid(account.pw_uid)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
                    signal.signal(number, signal.SIG_DFL)
                # A library that the command's user cannot read would only earn a complaint.
                if audit and os.access(AUDIT, os.R_OK):
                    os.environ["LD_AUDIT"] = audit
                os.execvp(command[0], command)  # noqa: S606
            except OSError as error:
                os.write(error_write, struct.pack("<i", error.errno or errno.EIO))
            finally:
                os._exit(127)
        os.close(gate_read)
        os.close(error_write)
        one = struct.pack("<I", 1)
        kernel.map_update(self._bpf.maps["family"], struct.pack("<I", pid), one)
        os.write(gate_write, b"x")
        os.close(gate_write)
        failure = os.read(error_read, 4)  # ends with exec
        os.close(error_read)
        if failure:
            os.waitpid(pid, 0)
            self.close()
            code = struct.unpack("<i", failure)[0]
            hint = "is it spelt right, and on PATH?" if code == errno.ENOENT else ""
            raise TargetError(f"cannot run {command[0]}: {os.strerror(code)}", hint)
        return pid

    def wait_stopped(self, timeout: float) -> Iterator[int]:
        """Processes that were stopped within `timeout` seconds, each stopped still."""
        poll = select.epoll()
        poll.register(self.stops_fd, select.EPOLLIN)
        with contextlib.suppress(InterruptedError):
            poll.poll(timeout)
        poll.close()
        yield from self.take_stopped()

    def take_stopped(self) -> Iterator[int]:
        """Processes that have been stopped by now, each stopped still."""
        rows = self._stops.drain().data
        for pid in dict.fromkeys(rows.view(np.uint32)[:, 0].tolist()):
            if _wait_until_stopped(pid):
                self._watch_loader(pid)
                yield pid

    def _watch_loader(self, pid: int) -> None:
        """Stops the process from now on whenever its list of objects changes."""
        if pid in self._loader_events:
            return
        for mapping in executable_mappings(pid):
            if not Path(mapping.path).name.startswith(("ld-", "ld.", "ld64")):
                continue
            path = Path(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}")
            elf = Elf(path)
            for symbol in elf.symbols.matching(r"^_?dl_debug_state$|^_dl_debug_state$")[:1]:
                offset = elf.file_offset(symbol.value)
                [self._loader_events[pid]] = BY_EVENT.attach(
                    self._loader_program, path, [offset], pid, at_return=False
                )
                return

    def forget_family(self, keep: int) -> None:
        """Watches only `keep` from now on; everything else that was stopped goes on."""
        for fd in self._family_events:
            os.close(fd)
        self._family_events = []
        for pid in [p for p in self._loader_events if p != keep]:
            os.close(self._loader_events.pop(pid))
        for pid in self.take_stopped():
            if pid != keep:
                resume(pid)

    def has_ended(self) -> bool:
        """Whether the command has ended; its status is then in `status`."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def terminate(self) -> None:
        """Ends the command if it runs still: SIGTERM, and SIGKILL after five seconds."""
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            if self.has_ended():
                return
            os.kill(self.pid, number)
            resume(self.pid)
            until = time.monotonic() + patience
            while not self.has_ended() and time.monotonic() < until:
                time.sleep(0.02)

    def close(self) -> None:
        """Detaches and lets everything that is stopped go on."""
        for fd in [*self._family_events, *self._loader_events.values()]:
            os.close(fd)
        self._family_events, self._loader_events = [], {}
        for pid in self.take_stopped():
            resume(pid)
        self._stops.close()
        self._bpf.close()


def launch_source(cpus: int) -> Source:
    """bpf/launch.h for this kernel. KernelError where it lacks the tracepoint."""
    return Source(
        "launch",
        programs={"on_objects_changed": KPROBE, "on_fork": TRACEPOINT, "on_exec": TRACEPOINT},
        maps=("family", "stops"),
        parameters={"CHILD_OFFSET": kernel.tracepoint_field(_FORK, "child_pid")},
        entries={"stops": cpus},
    )


def with_audit(others: str) -> str:
    """The value of LD_AUDIT that adds the audit library to those that are set (or to ""). It comes
    last: the functions of the others then stand behind its stubs. KernelError without it."""
    if not AUDIT.is_file():
        raise KernelError(f"there is no {AUDIT}", "make setup builds it")
    if set(str(AUDIT)) & set(": \t\n"):
        raise KernelError(f"LD_AUDIT cannot name {AUDIT}", "move profinfer to a plainer path")
    if str(AUDIT) in others.split(":"):
        return others  # twice, it would be loaded twice
    return f"{others}:{AUDIT}" if others else str(AUDIT)


def resume(pid: int) -> None:
    """Lets a stopped process go on."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def describe_status(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"was ended by {signal.Signals(number).name}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise TargetError(f"there is no user {user}") from None


def _wait_until_stopped(pid: int) -> bool:
    """Waits for SIGSTOP to take effect: SIGCONT sent before would only cancel it."""
    until = time.monotonic() + 2
    while time.monotonic() < until:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return False
        if stat.rpartition(")")[2].split()[0] == "T":
            return True
        if not is_alive(pid):
            return False
        time.sleep(0.0002)
    raise KernelError(f"process {pid} did not stop")
