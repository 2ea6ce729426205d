"""`profinfer doctor`: what can be recorded here, what is missing, and the remedy."""

from __future__ import annotations

import argparse
import contextlib
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

from profinfer.config import LEVELS
from profinfer.describing.describe import describe_process
from profinfer.describing.layout import Layout
from profinfer.engine import target
from profinfer.engine.stubs import read_redirection, with_audit
from profinfer.engine.target import EngineObject
from profinfer.errors import PrivilegeError, ProbeError, ProfinferError
from profinfer.kernel import features
from profinfer.probes.files import FileTarget
from profinfer.probes.placement import Placer
from profinfer.probes.plan import Plan, make_plan
from profinfer.probes.ranks import describe_ranks
from profinfer.recording.abilities import Abilities
from profinfer.recording.recorder import Server


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
            "--sysroot",
            type=Path,
            metavar="DIR",
            help="root of the system that they are for (see profinfer plan)",
        )

    def run(self, args: argparse.Namespace) -> int:
        """0 when everything that was looked at works, else the exit code of the first problem."""
        with contextlib.ExitStack() as stack:
            # Started when the first one asks.
            here = Abilities(cache(lambda: stack.enter_context(Server())))
            return _look(args, here)


def _look(args: argparse.Namespace, here: Abilities) -> int:
    codes: list[int] = []
    files: list[FileTarget] = []
    objects: list[EngineObject] = []

    def show(name: str, check: Callable[[], str]) -> None:
        codes.append(_show(name, check))

    if args.file:
        show("files", lambda: _files(args.file, files))
    if not (files and files[0].is_foreign):
        show("kernel", _kernel)
        show("capabilities", _capabilities)
        show("uprobes", here.uprobes)
        show("tracefs", lambda: str(features.tracefs()))
        show("loader", here.loaders)
        show("transport", here.transport)
        show("counters", here.counters)
        show("scheduler", here.scheduler)
        show("memory", here.memory)
        show("hit cost", here.hit_costs)
        show("audit library", _audit)
    if args.pid is not None:
        show("process", lambda: _process(args.pid, objects))
    if objects:
        show("probe points", lambda: _plan(objects, args.pid, here))
        show("layout", lambda: _layout(objects, args.pid))
    if files:
        show("probe points", lambda: _file_plan(files[0], here))
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
    missing = features.missing_capabilities()
    if missing:
        raise PrivilegeError(f"missing {', '.join(missing)}", "run profinfer as root (sudo)")
    return "sufficient"


def _audit() -> str:
    return f"{with_audit('')} (profinfer env says how to use it)"


def _process(pid: int, objects: list[EngineObject]) -> str:
    objects += target.engine_objects(pid)
    lines = [f"{pid} ({target.process_name(pid)})"]
    lines += [f"{item.path}  build id {item.elf.build_id}" for item in objects]
    return "\n".join(lines)


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


def _plan(objects: list[EngineObject], pid: int, here: Abilities) -> str:
    placer = Placer(here.hit_cost(), pid)
    placer.redirection = read_redirection(pid)
    plan = make_plan(objects, LEVELS[-1], placer)
    return f"stubs: {placer.redirection.reason or 'on'}\n{_points(plan)}"


def _file_plan(engine: FileTarget, here: Abilities) -> str:
    if not engine.is_foreign:
        return _points(engine.plan(LEVELS[-1], cost=here.hit_cost()))
    points = _points(engine.plan(LEVELS[-1]))
    return f"cost not measured: chosen by kind, {describe_ranks(engine.machine)}\n{points}"


def _points(plan: Plan) -> str:
    if not plan.probes:
        raise ProbeError("none: " + plan.describe())
    return plan.describe()


def _layout(objects: list[EngineObject], pid: int) -> str:
    return _describe(describe_process(pid, objects))


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
