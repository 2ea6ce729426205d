"""`profinfer doctor`: what can be recorded here, what is missing, and the remedy."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path

from profinfer import bcc_loader, features, kernel, libbpf_loader, loader, target, uprobes
from profinfer.errors import KernelError, PrivilegeError, ProbeError, ProfinferError
from profinfer.hitcost import hit_cost
from profinfer.launch import launch_source, with_audit
from profinfer.layout import describe
from profinfer.loaded import cpu_count
from profinfer.placement import Placer
from profinfer.plan import LEVELS, make_plan
from profinfer.stubs import read_redirection
from profinfer.target import EngineObject


class DoctorCommand:
    """Checks the machine and, when given one, a process or a library."""

    name = "doctor"
    help = "what can be recorded here, what is missing, and the remedy"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """A process, a file, or neither."""
        parser.add_argument("--pid", type=int, help="look into this process")
        parser.add_argument("file", nargs="?", type=Path, help="look into this library or program")

    def run(self, args: argparse.Namespace) -> int:
        """0 when everything that was looked at works, else the exit code of the first problem."""
        checks: list[tuple[str, Callable[[], str]]] = [
            ("kernel", _kernel),
            ("capabilities", _capabilities),
            ("uprobes", _uprobes),
            ("tracefs", lambda: str(kernel.tracefs())),
            ("loader", _loader),
            ("transport", _transport),
            ("hit cost", _hit_cost),
            ("audit library", _audit),
        ]
        code = 0
        objects: list[EngineObject] = []
        more: list[tuple[str, Callable[[], str]]] = []
        if args.pid is not None:
            more.append(("process", lambda: _process(args.pid, objects)))
        elif args.file is not None:
            more.append(("file", lambda: _file(args.file, objects)))
        if more:
            more.append(("probe points", lambda: _plan(objects, args.pid)))
            more.append(("layout", lambda: _layout(objects, args.pid)))
        for name, check in [*checks, *more]:
            if name in ("probe points", "layout") and not objects:
                break
            found = _show(name, check)
            code = code or found
        return code


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


def _process(pid: int, objects: list[EngineObject]) -> str:
    objects += target.engine_objects(pid)
    lines = [f"{pid} ({target.process_name(pid)})"]
    lines += [f"{item.path}  build id {item.elf.build_id}" for item in objects]
    return "\n".join(lines)


def _file(path: Path, objects: list[EngineObject]) -> str:
    item = target.file_object(path)
    objects.append(item)
    return f"{path}  build id {item.elf.build_id}, {len(item.elf.symbols):,} functions"


def _plan(objects: list[EngineObject], pid: int | None) -> str:
    placer = Placer(hit_cost(uprobes.best_way()), pid or 0)
    if pid is not None:
        placer.redirection = read_redirection(pid)
    plan = make_plan(objects, LEVELS[-1], placer)
    if not plan.probes:
        raise ProbeError("none: " + plan.describe())
    stubs = "" if pid is None else f"stubs: {placer.redirection.reason or 'on'}\n"
    return stubs + plan.describe()


def _layout(objects: list[EngineObject], pid: int | None) -> str:
    if pid is not None:
        uid, gid = target.owner(pid)
    else:
        status = objects[0].library.stat()
        uid, gid = status.st_uid, status.st_gid
    layout = describe([item.library for item in objects], uid=uid, gid=gid)
    t = layout.tensor
    lines = [
        f"ggml {layout.version or '(no version)'}: {len(layout.ops)} ops,"
        f" {sum(x is not None for x in layout.types)} types;"
        f" tensor ne@{t.ne} nb@{t.nb} op@{t.op} src@{t.src} name@{t.name}",
        f"llama_ubatch: {layout.ubatch or 'unknown: no tokens, sequences and positions'}",
        *layout.notes,
    ]
    return "\n".join(lines)
