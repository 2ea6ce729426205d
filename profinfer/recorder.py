"""One recording: find the target, learn its layout, attach, drain until the end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

from profinfer import kernel, target
from profinfer.aside import Aside
from profinfer.attach import Attachments
from profinfer.capture import Frame, FrameKind, json_frame
from profinfer.config import Config
from profinfer.counting import Counting, open_counters
from profinfer.drain import boot_ns, clock_frame
from profinfer.drains import Drains
from profinfer.engine_wait import wait_for_engine
from profinfer.errors import KernelError, PrivilegeError, ProbeError, TargetError
from profinfer.evict import evict_mapped, evict_named
from profinfer.handler_stats import HandlerStats, event_programs_json, handlers_json
from profinfer.hitcost import hit_cost
from profinfer.kernel_types import scheduler_types
from profinfer.launch import Launched, resume
from profinfer.layout import describe
from profinfer.layout_data import Layout
from profinfer.loaded import Loaded, load_handlers
from profinfer.means import Means, choose_means
from profinfer.memory_recorder import MemoryRecorder
from profinfer.metadata import start_json
from profinfer.pace import Pace
from profinfer.placement import Choices, Placer
from profinfer.plan import HOT_HANDLERS, Plan, check, make_plan
from profinfer.records import Kind
from profinfer.result import Progress, Result
from profinfer.run_delay import RunDelay
from profinfer.scheduler import SYSTEM, Scheduler
from profinfer.stubs import read_redirection
from profinfer.target import EngineObject, ObjectFinder

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
        self._means: Means | None = None
        self._loaded: Loaded | None = None
        self._scheduler: Scheduler | None = None
        self._attachments: Attachments | None = None
        self._counting = Counting((), ())
        self._finder = ObjectFinder()
        self._placer = Placer(None, 0)
        self._memory = MemoryRecorder()
        self._signal: int | None = None
        self._usual: dict[int, Any] = {}
        self._notes: list[str] = []
        self.pid = 0
        self.plan = Plan(config.level, (), {})
        self.objects: list[EngineObject] = []

    def __enter__(self) -> Recorder:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._usual[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, action in self._usual.items():
            signal.signal(number, action)
        if self._attachments:
            self._attachments.detach()
        self._memory.close()
        if self._launched:
            self._launched.close()
            if self.pid:
                resume(self.pid)
            self._launched.terminate()
        self._counting.close()
        if self._scheduler:
            self._scheduler.close()
        if self._loaded:
            self._loaded.close()

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signal = number

    # ---- Before the first record

    def prepare(self) -> Frame:
        """Finds the target and loads the handlers; the START frame. Nothing is attached yet."""
        check_privileges()
        # Before a command is started: what is no name ends it here.
        self._counting = open_counters(self._config.counters)
        means = self._means = choose_means(
            self._config.loader, self._config.transport, self._config.attach
        )
        if self._config.pid is not None:
            self.pid = self._config.pid
            self.objects = target.engine_objects(self.pid)
            self.plan = make_plan(self.objects, self._config.level)
            check(self.plan, best_effort=self._config.best_effort)
        else:
            self._launched = Launched(
                self._config.command,
                means.loader.load,
                self._config.user,
                redirect=self._config.redirect,
            )
            found = wait_for_engine(
                self._launched, self._finder, self._config, lambda: self._signal is not None
            )
            self.pid, self.objects, self.plan = found.pid, found.objects, found.plan
        layout = self._describe()
        cost = hit_cost(means.way)
        self._placer = Placer(cost, self.pid, symbols_only=self._config.probe_symbols)
        placing = self._start_placing()
        self._memory = MemoryRecorder(
            self.pid, faults=self._config.faults, reads=self._config.block_io
        )
        types = Aside(scheduler_types) if self._config.scheduler != "off" else None
        self._loaded = load_handlers(
            means.loader.load, layout, means.transport, self._config.ring_bytes(),
            self._config.structure_ring_bytes(), means.way.attach_type,
            boot_clock=means.boot_clock, counters=self._counting.parameters(),
            experts=self._config.expert_parameters(),
            memory=self._memory.probes,
        )  # fmt: skip
        self._load_scheduler(means, types)
        self.plan, self._placer.choices = placing.result()
        check(self.plan, best_effort=self._config.best_effort)
        redirection = self._placer.redirection.reason or "on"
        start = start_json(
            self.pid, self.objects, layout, self.plan, self._config, redirection, cost, means
        )
        if self._config.counters:
            start["counters"] = self._counting.to_json()
            self._notes += self._counting.notes
        if self._scheduler:
            start["scheduler"] = self._scheduler.to_json()
        self._notes += self._memory.probes.notes
        if self._config.evict:
            start["evicted"] = self._evict()
        return json_frame(FrameKind.START, boot_ns(), start)

    def _evict(self) -> list[dict[str, Any]]:
        """Drops the models' pages from memory; what became of each file."""
        launched = self._launched
        found = evict_named(self._config.command) if launched else evict_mapped(self.pid)
        for item in found:
            left = "an unknown number" if item["left"] is None else item["left"]
            if left:
                of = f"{item['bytes']} bytes of {item['path']}"
                self._notes.append(f"{left} of {of} stay in memory")
        return found

    def _load_scheduler(self, means: Means, types: Aside[dict[str, int]] | None) -> None:
        mode = self._config.scheduler
        if types is None:
            return
        try:
            self._scheduler = Scheduler(
                means.loader.load, means.transport, self._config.scheduler_ring_bytes(), self.pid,
                SYSTEM if mode == "auto" else mode, types.result(), boot_clock=means.boot_clock,
            )  # fmt: skip
        except KernelError as error:
            if mode != "auto":
                raise
            self._notes.append(f"the scheduler was not recorded: {error.message}")

    def _start_placing(self) -> Aside[tuple[Plan, Choices]]:
        """The plan for the objects as they are mapped now. What it takes to read machine code would
        stay with us to the end."""
        if self._config.redirect:
            self._placer.redirection = read_redirection(self.pid)
        return Aside(
            lambda: (
                make_plan(self.objects, self._config.level, self._placer), self._placer.choices
            )
        )  # fmt: skip

    def _describe(self) -> Layout:
        uid, gid = target.owner(self.pid)
        try:
            return describe([item.library for item in self.objects], uid=uid, gid=gid)
        except ProbeError as error:
            raise ProbeError(
                f"the engine of process {self.pid} gives no layout: {error.message}", error.hint
            ) from None

    # ---- Recording

    def run(self, sink: Sink, show: Callable[[Progress], None]) -> Result:
        """Attaches, records until something ends it, detaches; what came of it. `show` is called
        when all probes are in place, and after every drain."""
        loaded = self._loaded
        means = self._means
        if loaded is None or means is None:
            raise RuntimeError("run() before prepare()")
        drain = Drains(loaded, self.pid, self._scheduler)
        sink(clock_frame())
        first, last = self._config.iteration_range()
        self._counting.start(loaded)
        loaded.set_control(active=int(first == 0), first_ubatch=first, last_ubatch=last)
        empty = HOT_HANDLERS if self._config.empty_handlers else ()
        attachments = self._attachments = Attachments(loaded, self.pid, means.way, empty=empty)
        stats = HandlerStats()
        delay = RunDelay(self.pid)
        attachments.attach(self.plan)
        for frame in drain.begin():
            sink(frame)
        self._memory.begin(loaded)
        began, cpu = time.monotonic(), time.process_time()
        show(Progress(0.0, 0, 0))
        if self._launched:
            resume(self.pid)
        try:
            reason = self._loop(loaded, attachments, drain, stats, delay, sink, show, began)
        finally:
            # Whatever happened to the sink: the probes go first.
            loaded.set_control(active=0)
            self._memory.end()
            attachments.detach()
            if self._scheduler:
                self._scheduler.detach()
            stats.close()
        time.sleep(0.005)  # a handler that had begun ends meanwhile
        for frame in [*self._memory.look(), *drain.take(self.objects), *self._memory.models()]:
            sink(frame)
        sink(clock_frame())
        if loaded.kernel_lost() > drain.lost:
            self._notes.append(
                f"the kernel dropped {loaded.kernel_lost()} records, {drain.lost} were counted"
            )
        result = Result(reason, drain.records, drain.lost, time.monotonic() - began)
        result.notes = self._notes
        if self._launched:
            self._launched.terminate()
            result.command_status = self._launched.status
        end = {
            "reason": reason,
            "notes": self._notes,
            "seconds": result.seconds,
            "handlers": handlers_json(attachments.programs, drain.engine.emitted, empty),
            "event_programs": event_programs_json(
                drain.event_programs() | self._memory.probes.event_programs(loaded)
            ),
            "recorder_cpu_s": time.process_time() - cpu,
            "threads_waited_s": delay.seconds,
            "memory": self._memory.to_json() if not last else None,
            "drained": drain.engine.records,
            "lost": drain.engine.lost,
            "scheduler": drain.scheduler_json(),
            "command_status": (
                None
                if result.command_status is None
                else os.waitstatus_to_exitcode(result.command_status)
            ),
        }
        sink(json_frame(FrameKind.END, boot_ns(), end))
        return result

    def _loop(
        self, loaded: Loaded, attachments: Attachments, drain: Drains, stats: HandlerStats,
        delay: RunDelay, sink: Sink, show: Callable[[Progress], None], began: float,
    ) -> str:  # fmt: skip
        poll = select.epoll()
        target_fd = _pidfd(self.pid)
        if target_fd is None:
            return "the target ended"
        poll.register(target_fd, select.EPOLLIN)
        if self._launched:
            poll.register(self._launched.stops_fd, select.EPOLLIN)
        checked = False
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, target_fd)
            stack.callback(poll.close)
            pace = stack.enter_context(Pace(self._config.poll))
            while True:
                ready: list[tuple[int, int]] = []
                with contextlib.suppress(InterruptedError):
                    ready = poll.poll(pace.nap)
                if self._launched:
                    self._attach_new(self._launched, attachments)
                for frame in self._memory.look():  # of a target that ends soon nothing is left
                    sink(frame)
                ended = any(fd == target_fd for fd, _ in ready)
                if not pace.is_due(drain.fill(), at_once=ended or self._signal is not None):
                    continue
                for frame in drain.take(self.objects):
                    sink(frame)
                stats.tick(drain.engine.records)
                delay.look(drain.engine.tids)
                if not (ended or checked) and drain.engine.emitted[Kind.OPERATOR]:
                    checked = True
                    self._check_redirection()
                if pace.is_clock_due():
                    sink(clock_frame())
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

    def _check_redirection(self) -> None:
        """Looks again whether calls pass their stubs: now the loader has bound them."""
        problems = self._placer.problems(self.objects)
        if target.is_alive(self.pid):  # what has ended cannot be read any more
            self._notes += [f"calls may have been missed: {problem}" for problem in problems]

    def _attach_new(self, launched: Launched, attachments: Attachments) -> None:
        """Attaches to engine objects that the target has loaded meanwhile."""
        for pid in launched.take_stopped():
            # When it is killed meanwhile, the loop will notice.
            with contextlib.suppress(TargetError):
                if pid == self.pid and not read_redirection(pid).changing:
                    self.objects = self._finder.find(pid)
                    self.plan, self._placer.choices = self._start_placing().result()
                    attachments.attach(self.plan)
            resume(pid)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
