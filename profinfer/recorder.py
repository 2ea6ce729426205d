"""One recording: find the target, learn its layout, attach, drain until the end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from profinfer import __version__, kernel, target
from profinfer.attach import Attachments
from profinfer.capture import Frame, FrameKind, json_frame
from profinfer.config import Config
from profinfer.drain import Drain, boot_ns, clock_frame
from profinfer.errors import PrivilegeError, ProbeError, TargetError
from profinfer.launch import Launched, describe_status, resume
from profinfer.layout import describe
from profinfer.layout_data import Layout
from profinfer.loader import Loaded, cpu_count, load_bcc
from profinfer.plan import Plan, check, make_plan
from profinfer.target import EngineObject, ObjectFinder

_CLOCK_EVERY_NS = 10_000_000_000


@dataclass
class Result:
    """How a recording ended."""

    reason: str
    records: int = 0
    lost: int = 0
    seconds: float = 0.0
    command_status: int | None = None
    """Wait status of the launched command."""
    notes: list[str] = field(default_factory=list)


@dataclass
class Progress:
    """What a live line shows."""

    seconds: float
    records: int
    lost: int


Sink = Callable[[Frame], None]


def check_privileges() -> None:
    """PrivilegeError naming what is missing."""
    missing = kernel.missing_capabilities()
    if missing:
        raise PrivilegeError(
            f"recording needs {', '.join(missing)}, which this process lacks",
            "run it as root: sudo profinfer record ...",
        )


class Recorder:
    """Records one target into a sink of frames. Use as a context manager: it always detaches."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._launched: Launched | None = None
        self._loaded: Loaded | None = None
        self._attachments: Attachments | None = None
        self._finder = ObjectFinder()
        self._signal: int | None = None
        self.pid = 0
        self.plan = Plan(config.level, (), {})
        self.objects: list[EngineObject] = []

    def __enter__(self) -> Recorder:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._attachments:
            self._attachments.detach()
        if self._launched:
            self._launched.close()
            if self.pid:
                resume(self.pid)
            self._launched.terminate()
        if self._loaded:
            self._loaded.close()

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signal = number

    # ---- Before the first record

    def prepare(self) -> Frame:
        """Finds the target and loads the handlers; the START frame. Nothing is attached yet."""
        check_privileges()
        if self._config.pid is not None:
            self.pid = self._config.pid
            self.objects = target.engine_objects(self.pid)
            self.plan = make_plan(self.objects, self._config.level)
            check(self.plan, best_effort=self._config.best_effort)
        else:
            self._launched = Launched(self._config.command, self._config.user)
            self._wait_for_engine(self._launched)
        layout = self._describe()
        self._loaded = load_bcc(
            layout, self._config.ring_bytes(), self._config.structure_ring_bytes()
        )
        return json_frame(FrameKind.START, boot_ns(), self._metadata(layout))

    def _wait_for_engine(self, launched: Launched) -> None:
        """Returns with the process stopped in which an engine has appeared."""
        last: Plan | None = None
        while True:
            for pid in launched.wait_stopped(0.2):
                with contextlib.suppress(TargetError):
                    objects = self._finder.find(pid)
                    plan = make_plan(objects, self._config.level) if objects else None
                    last = plan or last
                    usable = plan is not None and plan.probes
                    if plan and (not plan.missing or (self._config.best_effort and usable)):
                        self.pid, self.objects, self.plan = pid, objects, plan
                        launched.forget_family(keep=pid)
                        return
                resume(pid)
            if launched.has_ended():
                status = describe_status(launched.status or 0)
                command = self._config.command[0]
                if last and last.missing:
                    check(last, best_effort=False)
                raise TargetError(
                    f"{command} {status} before it loaded any ggml or llama.cpp code",
                    "record the process that runs the model; profinfer doctor FILE looks into one",
                )
            if self._signal is not None:
                raise TargetError(
                    f"interrupted before {self._config.command[0]} loaded any ggml code"
                )

    def _describe(self) -> Layout:
        uid, gid = target.owner(self.pid)
        try:
            return describe([item.library for item in self.objects], uid=uid, gid=gid)
        except ProbeError as error:
            raise ProbeError(
                f"the engine of process {self.pid} gives no layout: {error.message}", error.hint
            ) from None

    def _metadata(self, layout: Layout) -> dict[str, Any]:
        uname = os.uname()
        return {
            "profinfer": __version__,
            "target": {
                "pid": self.pid,
                "name": target.process_name(self.pid),
                "command": target.command_line(self.pid),
                "objects": [
                    {"path": item.path, "build_id": item.elf.build_id} for item in self.objects
                ],
            },
            "layout": dataclasses.asdict(layout),
            "plan": self.plan.to_json(),
            "config": self._config.to_json(),
            "loader": "bcc",
            "uname": {
                name: getattr(uname, name) for name in ("sysname", "version", "release", "machine")
            },
            "host": platform.node(),
            "cpu_model": target.cpu_model(),
            "cpus": cpu_count(),
            "page_size": os.sysconf("SC_PAGESIZE"),
            "python": platform.python_version(),
        }

    # ---- Recording

    def run(self, sink: Sink, show: Callable[[Progress], None]) -> Result:
        """Attaches, records until something ends it, detaches; what came of it."""
        loaded = self._loaded
        if loaded is None:
            raise RuntimeError("run() before prepare()")
        drain = Drain(loaded, self.pid)
        sink(clock_frame())
        first, last = self._config.iteration_range()
        loaded.set_control(active=int(first == 0), first_ubatch=first, last_ubatch=last)
        attachments = self._attachments = Attachments(loaded, self.pid)
        attachments.attach(self.plan, self.objects)
        began = time.monotonic()
        if self._launched:
            resume(self.pid)
        try:
            reason = self._loop(loaded, attachments, drain, sink, show, began)
        finally:
            # Whatever happened to the sink: the probes go first.
            loaded.set_control(active=0)
            attachments.detach()
        time.sleep(0.005)  # a handler that had begun ends meanwhile
        for frame in drain.take(self.objects):
            sink(frame)
        sink(clock_frame())
        result = Result(reason, drain.records, drain.lost, time.monotonic() - began)
        if self._launched:
            self._launched.terminate()
            result.command_status = self._launched.status
        end = {
            "reason": reason,
            "seconds": result.seconds,
            "drained": drain.records,
            "lost": drain.lost,
            "command_status": (
                None
                if result.command_status is None
                else os.waitstatus_to_exitcode(result.command_status)
            ),
        }
        sink(json_frame(FrameKind.END, boot_ns(), end))
        return result

    def _loop(
        self, loaded: Loaded, attachments: Attachments, drain: Drain, sink: Sink,
        show: Callable[[Progress], None], began: float,
    ) -> str:  # fmt: skip
        poll = select.epoll()
        target_fd = _pidfd(self.pid)
        if target_fd is None:
            return "the target ended"
        poll.register(target_fd, select.EPOLLIN)
        if self._launched:
            poll.register(self._launched.stops_fd, select.EPOLLIN)
        next_clock = boot_ns() + _CLOCK_EVERY_NS
        next_drain = time.monotonic() + self._config.poll
        try:
            while True:
                wait = max(0.0, next_drain - time.monotonic())
                ready: list[tuple[int, int]] = []
                with contextlib.suppress(InterruptedError):
                    ready = poll.poll(wait)
                if self._launched:
                    self._attach_new(self._launched, attachments)
                ended = any(fd == target_fd for fd, _ in ready)
                if time.monotonic() < next_drain and not ended and self._signal is None:
                    continue
                next_drain = time.monotonic() + self._config.poll
                for frame in drain.take(self.objects):
                    sink(frame)
                if boot_ns() >= next_clock:
                    sink(clock_frame())
                    next_clock += _CLOCK_EVERY_NS
                seconds = time.monotonic() - began
                show(Progress(seconds, drain.records, drain.lost))
                if ended:
                    return "the target ended"
                if self._signal is not None:
                    return f"{signal.Signals(self._signal).name} received"
                if self._config.duration is not None and seconds >= self._config.duration:
                    return "the duration is over"
                if self._config.iterations and loaded.control()["finished"][0]:
                    return "the iterations are complete"
        finally:
            poll.close()
            os.close(target_fd)

    def _attach_new(self, launched: Launched, attachments: Attachments) -> None:
        """Attaches to engine objects that the target has loaded meanwhile."""
        for pid in launched.take_stopped():
            try:
                if pid == self.pid:
                    self.objects = self._finder.find(pid)
                    plan = make_plan(self.objects, self._config.level)
                    attachments.attach(plan, self.objects)
            finally:
                resume(pid)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
