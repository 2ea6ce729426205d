"""A trace of the system, recorded beside ours by Perfetto's own traced and traced_probes.

Both run for this recording alone, with sockets of their own, so that a tracing service of the
system is neither needed nor disturbed. Whatever becomes of them, our own trace stays as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from profinfer.errors import KernelError, ProfinferError, UsageError
from profinfer.kernel.tracefs import TRACEFS, KeptBuffers

PROGRAMS = "PROFINFER_PERFETTO"
"""Environment variable: the folder with traced, traced_probes and perfetto."""

_NAMES = ("traced", "traced_probes", "perfetto")
_START_S, _STOP_S, _END_S = 30.0, 120.0, 5.0
_PR_SET_PDEATHSIG = 1
_FTRACE_EVENTS = TRACEFS / "set_event"
_PLACE = re.compile(r"^\[[\d.]+\]\s+\S+:\d+\s+")
"""How a line of theirs begins: a time and a line of source."""

_libc = ctypes.CDLL(None)


class SystemTrace:
    """A system trace in the making. A context manager: whatever was started ends with it."""

    def __init__(self, config: Path, output: Path) -> None:
        """`config` is a TraceConfig as text, `output` the trace of ours that it will join.

        KernelError when Perfetto is not installed, UsageError when the file cannot be read.
        """
        self._programs = {name: _find(name) for name in _NAMES}
        if not os.access(config, os.R_OK) or not config.is_file():
            raise UsageError(f"cannot read the trace configuration {config}")
        text = config.read_text(errors="replace")
        _check_ftrace(text)
        self._config = config
        self._buffers = KeptBuffers(text)
        self._output = output
        # Nobody can guess the names and put a link there: we are root.
        hidden = f".{output.name}.{secrets.token_hex(8)}"
        self.path = output.with_name(hidden + ".system")
        self._merged = output.with_name(hidden + ".merged")
        self._kept = False
        self._folder = Path(tempfile.mkdtemp(prefix="profinfer-system-"))
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._buffers.__enter__()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(_NAMES):
            process = self._running.pop(name, None)
            if process is None:
                continue
            # traced_probes switches ftrace off when it is asked to end.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.terminate()
                process.wait(_END_S)
            process.kill()
            process.wait()
        self._buffers.__exit__()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._merged.unlink(missing_ok=True)
        if not self._kept:
            self.path.unlink(missing_ok=True)

    def _start(self) -> None:
        """Returns when all data sources of the configuration are running."""
        self._run("traced")
        self._wait_for_socket()
        self._run("traced_probes", keep=self._buffers.held)
        done, told = os.pipe()
        try:
            self._run(
                "perfetto", "--txt", "--config", str(self._config.resolve()),
                "--out", str(self.path.resolve()), "--notify-fd", str(told), keep=(told,),
            )  # fmt: skip
            os.close(told)
            ready, _, _ = select.select([done], [], [], _START_S)
            answer = os.read(done, 1) if ready else None
        finally:
            os.close(done)
        if answer == b"\0":
            # A configuration that the service refuses is acknowledged as well, before the end.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running["perfetto"].wait(0.1)
        if answer is None:
            raise KernelError(
                f"Perfetto has not started to record within {_START_S:.0f} s: {self._said()}",
                "which data source of the configuration does this machine not have?",
            )
        if answer != b"\0" or "Service error" in self._said():
            raise UsageError(
                f"Perfetto refuses the trace configuration {self._config}: {self._said()}",
                "try it alone: perfetto --txt -c FILE -o trace.pftrace",
            )

    def _run(self, name: str, *arguments: str, keep: tuple[int, ...] = ()) -> None:
        environment = os.environ | {
            "PERFETTO_PRODUCER_SOCK_NAME": str(self._folder / "producer"),
            "PERFETTO_CONSUMER_SOCK_NAME": str(self._folder / "consumer"),
        }
        with (self._folder / name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                [self._programs[name], *arguments], env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, pass_fds=keep,
                start_new_session=True,  # Ctrl-C is for us
                preexec_fn=_end_with_parent,
            )  # fmt: skip

    def _wait_for_socket(self) -> None:
        until = time.monotonic() + _START_S
        while not (self._folder / "consumer").exists():
            if self._running["traced"].poll() is not None or time.monotonic() > until:
                raise KernelError(f"Perfetto's traced does not run: {self._said('traced')}")
            time.sleep(0.005)

    def _said(self, name: str = "perfetto") -> str:
        """What one of them has said last."""
        text = (self._folder / name).read_text(errors="replace")
        lines = [_PLACE.sub("", line).strip() for line in text.splitlines()]
        lines = [line for line in lines if line and line.strip("^~ ")]
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or ["no message"])[-1]

    def end(self) -> None:
        """Ends the system trace; it is written while the caller does something else."""
        with contextlib.suppress(ProcessLookupError):
            self._running["perfetto"].send_signal(signal.SIGTERM)

    def join(self) -> str:
        """After `end`: puts both traces in the place of ours, and says what was done.

        ProfinferError when something goes wrong: then ours is as it was.
        """
        process = self._running["perfetto"]
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            raise KernelError(
                f"Perfetto has not written the system trace within {_STOP_S:.0f} s", self._alone()
            ) from None
        if process.returncode or not self.path.exists() or not self.path.stat().st_size:
            raise KernelError(
                f"Perfetto has written no system trace: {self._said()}", self._alone()
            )
        # A process of its own: it needs memory that a recorder should not take. Modules that lie in
        # the current folder are not ours (-P): we are root.
        done = subprocess.run(
            [sys.executable, "-P", "-m", "profinfer", "merge", f"--output={self._merged}", "--",
             self._output, self.path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.strip().removeprefix("profinfer: ") or "no message"
            raise ProfinferError(
                f"the system trace was not merged: {said}",
                f"both traces are there, {self._output} and {self._keep()}",
            )
        os.replace(self._merged, self._output)
        return self._named(done.stdout) + self._named(done.stderr)

    def _alone(self) -> str:
        return f"{self._output} is there, without the system's events"

    def _named(self, text: str) -> str:
        """What merge says, without the names of files that are gone."""
        text = text.replace(str(self._merged), str(self._output))
        return text.replace(str(self.path), "the system trace")

    def _keep(self) -> Path:
        """Leaves the system trace there, under a name that a person finds, where that is free."""
        self._kept = True
        name = self._output.with_suffix(".system" + self._output.suffix)
        with contextlib.suppress(OSError):
            os.link(self.path, name, follow_symlinks=False)
            self.path.unlink()
            self.path = name
        return self.path


def _find(name: str) -> str:
    folder = os.environ.get(PROGRAMS)
    found = shutil.which(name, path=folder) if folder else shutil.which(name)
    if found is None:
        where = f"in {folder} (${PROGRAMS})" if folder else "on PATH"
        raise KernelError(
            f"--system needs Perfetto's {name}, which is not {where}",
            f"install Debian's perfetto package; or, from a checkout, tools/fetch_perfetto.py DIR "
            f"and {PROGRAMS}=DIR/bin",
        )
    return found


def _check_ftrace(config: str) -> None:
    """Of two that read ftrace's one set of buffers each gets a part of the events, and neither
    knows: UsageError when somebody else has switched events on there."""
    if "linux.ftrace" not in config or "instance_name" in config:
        return
    with contextlib.suppress(OSError):
        if _FTRACE_EVENTS.read_text().strip():
            raise UsageError(
                "somebody else is recording with ftrace: events would be divided between the two",
                f"end that recording (or `echo > {_FTRACE_EVENTS}`, if there is none), or make an "
                f"instance for this one: mkdir {_FTRACE_EVENTS.parent}/instances/NAME, and "
                'instance_name: "NAME" in ftrace_config',
            )


def _end_with_parent() -> None:
    """In the child: it does not outlive us."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
