"""`profinfer doctor`: what can be recorded here, what is missing, and the remedy."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from pathlib import Path

from profinfer import bcc_loader, features, kernel, libbpf_loader, loader, target, uprobes
from profinfer.aside import Aside
from profinfer.counting import check_counters
from profinfer.errors import KernelError, PrivilegeError, ProbeError, ProfinferError
from profinfer.files import FileTarget
from profinfer.hitcost import hit_cost
from profinfer.kernel_types import scheduler_types
from profinfer.launch import launch_source, with_audit
from profinfer.layout import describe
from profinfer.layout_data import Layout
from profinfer.loaded import cpu_count
from profinfer.means import choose_means
from profinfer.memory_probes import describe_means
from profinfer.perf_events import GENERIC
from profinfer.placement import Placer
from profinfer.plan import LEVELS, Plan, make_plan
from profinfer.pmus import read_pmus
from profinfer.presets import presets
from profinfer.ranks import describe_ranks
from profinfer.scheduler import SYSTEM, Scheduler
from profinfer.stubs import read_redirection
from profinfer.target import EngineObject

_RING = 4096
"""Bytes of the rings of a try."""


class DoctorCommand:
    """Checks the machine and, when given one, a process or an engine's files."""

    name = "doctor"
    help = "what can be recorded here, what is missing, and the remedy"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """A process, files, or neither."""
        parser.add_argument("--pid", type=int, help="look into this process")
        parser.add_argument(
            "file", nargs="*", type=Path,
            help="look into these libraries or programs; of another machine's, say what can be"
            " planned",
        )  # fmt: skip
        parser.add_argument(
            "--sysroot", type=Path, metavar="DIR", help="for another machine's (see profinfer plan)"
        )

    def run(self, args: argparse.Namespace) -> int:
        """0 when everything that was looked at works, else the exit code of the first problem."""
        codes: list[int] = []
        files: list[FileTarget] = []
        objects: list[EngineObject] = []

        def show(name: str, check: Callable[[], str]) -> None:
            codes.append(_show(name, check))

        if args.file:
            show("files", lambda: _files(args.file, files))
        if not (files and files[0].is_foreign):
            for name, check in _HERE:
                show(name, check)
        if args.pid is not None:
            show("process", lambda: _process(args.pid, objects))
        if objects:
            show("probe points", lambda: _plan(objects, args.pid))
            show("layout", lambda: _layout(objects, args.pid))
        if files:
            show("probe points", lambda: _file_plan(files[0]))
            show("layout", lambda: _describe(files[0].layout(args.sysroot)))
        return next((code for code in codes if code), 0)


def _show(name: str, check: Callable[[], str]) -> int:
    try:
        text, mark, code, hint = check(), "ok", 0, ""
    except ProfinferError as error:
        text, mark, code, hint = error.message, "FAILS", error.exit_code, error.hint
    first, *rest = text.splitlines() or [""]
    print(f"{mark:5}  {name:13} {first}")
    for line in rest:
        print(f"{'':21}{line}")
    if hint:
        print(f"{'':21}hint: {hint}")
    return code


def _kernel() -> str:
    return f"Linux {platform.release()} on {platform.machine()}"


def _capabilities() -> str:
    missing = kernel.missing_capabilities()
    if missing:
        raise PrivilegeError(f"missing {', '.join(missing)}", "run profinfer as root (sudo)")
    return "sufficient"


def _uprobes() -> str:
    source = uprobes.uprobe_pmu()[0]
    way = uprobes.best_way()
    if way.name == uprobes.LINK:
        return f"by uprobe_multi link: one for all places of a handler (or perf event {source})"
    return f"by perf event (source {source}): {way.reason}"


def _hit_cost() -> str:
    cost = hit_cost(uprobes.best_way(), again=True)
    lines = [
        "measured now, kept until the next boot (look again when the machine is idle)",
        f"a handler that does nothing runs {cost.empty_handler_ns:.0f} ns by the kernel's count",
    ]
    known = sorted((ns, kind) for kind, ns in cost.sites.items() if ns is not None)
    lines += [f"{kind:12} {ns / 1000:6.2f} us" for ns, kind in known]
    lines += [f"{kind:12} refused by this kernel" for kind, ns in cost.sites.items() if ns is None]
    return "\n".join(lines)


def _audit() -> str:
    return f"{with_audit('')} (profinfer env says how to use it)"


def _loader() -> str:
    """Every loader is tried; one will do."""
    lines = []
    for name, load in (
        (loader.LIBBPF, libbpf_loader.load_libbpf),
        (loader.BCC, bcc_loader.load_bcc),
    ):
        try:
            load(launch_source(cpu_count())).close()
            lines.append(f"{name} loads programs")
        except KernelError as error:
            lines.append(f"{name} does not: {error.message}")
    chosen = loader.choose("auto")
    if all("loads" not in line for line in lines):
        raise KernelError("\n".join(lines), "make setup installs libbpf and builds its objects")
    return "\n".join([f"record uses {chosen.name}", *lines])


def _transport() -> str:
    clock = "" if features.has_boot_clock() else "; times are computed from CLOCK_MONOTONIC"
    return f"record uses {features.choose_transport('auto')}{clock}"


def _counters() -> str:
    """What --counters can name."""
    lines = [read_pmus().describe()]
    lines.append("generic: " + ", ".join(name for name in GENERIC if check_counters([name])[0]))
    for name, preset in presets().items():
        found, notes = check_counters([name])
        lines.append(f"preset {name} ({preset.what}): {', '.join(found) or notes[0]}")
    return "\n".join(lines)


def _scheduler() -> str:
    """A recording without it is one all the same."""
    means = choose_means()
    try:
        scheduler = Scheduler(
            means.loader.load, means.transport, _RING, os.getpid(), SYSTEM,
            Aside(scheduler_types).result(), boot_clock=means.boot_clock,
        )  # fmt: skip
    except KernelError as error:
        return f"cannot be recorded: {error.message}"
    found = ["states of threads"]
    if scheduler.names_calls:
        found.append("the system call that each was blocked in")
    if scheduler.names_reasons:
        found.append("the kernel's function")
    scheduler.close()
    return ", ".join(found)


def _process(pid: int, objects: list[EngineObject]) -> str:
    objects += target.engine_objects(pid)
    lines = [f"{pid} ({target.process_name(pid)})"]
    lines += [f"{item.path}  build id {item.elf.build_id}" for item in objects]
    return "\n".join(lines)


_HERE: tuple[tuple[str, Callable[[], str]], ...] = (
    ("kernel", _kernel),
    ("capabilities", _capabilities),
    ("uprobes", _uprobes),
    ("tracefs", lambda: str(kernel.tracefs())),
    ("loader", _loader),
    ("transport", _transport),
    ("counters", _counters),
    ("scheduler", _scheduler),
    # A recording without them is one all the same.
    ("memory", describe_means),
    ("hit cost", _hit_cost),
    ("audit library", _audit),
)


def _files(paths: list[Path], files: list[FileTarget]) -> str:
    engine = FileTarget(paths)
    files.append(engine)
    lines = [
        f"{item.path}  build id {item.elf.build_id}, {len(item.elf.symbols):,} functions"
        for item in engine.objects
    ]
    if engine.is_foreign:
        lines.insert(0, f"for {engine.machine}: recorded there, by a plan (profinfer plan)")
    return "\n".join(lines)


def _plan(objects: list[EngineObject], pid: int) -> str:
    placer = Placer(hit_cost(uprobes.best_way()), pid)
    placer.redirection = read_redirection(pid)
    plan = make_plan(objects, LEVELS[-1], placer)
    return f"stubs: {placer.redirection.reason or 'on'}\n{_points(plan)}"


def _file_plan(engine: FileTarget) -> str:
    if not engine.is_foreign:
        return _points(engine.plan(LEVELS[-1], cost=hit_cost(uprobes.best_way())))
    points = _points(engine.plan(LEVELS[-1]))
    return f"cost not measured: chosen by kind, {describe_ranks(engine.machine)}\n{points}"


def _points(plan: Plan) -> str:
    if not plan.probes:
        raise ProbeError("none: " + plan.describe())
    return plan.describe()


def _layout(objects: list[EngineObject], pid: int) -> str:
    uid, gid = target.owner(pid)
    return _describe(describe([item.library for item in objects], uid=uid, gid=gid))


def _describe(layout: Layout) -> str:
    t = layout.tensor
    lines = [
        f"ggml {layout.version or '(no version)'}: {len(layout.ops)} ops,"
        f" {sum(x is not None for x in layout.types)} types;"
        f" tensor ne@{t.ne} nb@{t.nb} op@{t.op} src@{t.src} name@{t.name}",
        f"llama_ubatch: {layout.ubatch or 'unknown: no tokens, sequences and positions'}",
        *layout.notes,
    ]
    return "\n".join(lines)
