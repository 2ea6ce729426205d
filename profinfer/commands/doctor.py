"""`profinfer doctor`: what can be recorded here, what is missing, and the remedy."""

from __future__ import annotations

import argparse
import contextlib
import platform
from functools import cache
from pathlib import Path

from profinfer.commands.engine_checks import EngineChecks
from profinfer.commands.findings import Check, Finding, Report
from profinfer.config import LEVELS
from profinfer.describing.describe import describe_process
from profinfer.describing.layout import Layout
from profinfer.engine import target
from profinfer.engine.adapter import use_adapter
from profinfer.engine.stubs import read_redirection, with_audit
from profinfer.engine.surroundings import surroundings
from profinfer.engine.target import EngineObject
from profinfer.errors import GraphNeeded, PrivilegeError, ProbeError, TargetError, UsageError
from profinfer.kernel import features
from profinfer.probes.files import FileTarget, variants
from profinfer.probes.placement import COUNTED, Placer
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
        parser.add_argument(
            "--measure", type=_seconds, metavar="SECONDS",
            help="with --pid: record the process for so long, to say what that costs it",
        )  # fmt: skip
        parser.add_argument(
            "--adapter", metavar="FILE", help="YAML that says what an engine is, beside those known"
        )
        parser.add_argument("--json", action="store_true", help="say it as JSON, all of it")

    def run(self, args: argparse.Namespace) -> int:
        """0 when level operator can be recorded of what was looked at (of several builds of one
        library, of one), else the exit code of the first problem that is in the way."""
        if args.measure and args.pid is None:
            raise UsageError("--measure needs a process to measure in (--pid)")
        use_adapter(args.adapter)
        report = Report(is_json=args.json)
        with contextlib.ExitStack() as stack:
            # Started when the first one asks.
            here = Abilities(cache(lambda: stack.enter_context(Server())))
            code = _look(args, here, report)
        report.end(code)
        return code


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= _LONGEST:
        raise ValueError
    return seconds


_LONGEST = 3600
"""Seconds of measuring."""
_OPTIONAL = ("tracefs", "counters", "scheduler", "memory", "audit library")
"""Level operator is recorded without."""


def _look(args: argparse.Namespace, here: Abilities, report: Report) -> int:
    codes: list[int] = []
    files: list[FileTarget] = []
    objects: list[EngineObject] = []

    def show(name: str, check: Check) -> None:
        code = report.show(name, check)
        if name not in _OPTIONAL:
            codes.append(code)

    if args.file:
        show("files", lambda: _files(args.file, files))
    if not (files and files[0].is_foreign):
        show("kernel", _kernel)
        show("capabilities", _capabilities)
        show("uprobes", here.uprobes)
        show("tracefs", here.tracefs)
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
        checks = EngineChecks(
            report, objects, lambda: _plan(objects, args.pid, here),
            lambda: describe_process(args.pid, objects),
        )  # fmt: skip
        codes.append(checks.run(args.pid, args.measure))
    builds = [_look_at_build(build, args.sysroot, here, report) for build in files]
    codes.append(min(builds, key=bool, default=0))
    return next((code for code in codes if code), 0)


def _look_at_build(build: FileTarget, sysroot: Path | None, here: Abilities, report: Report) -> int:
    """The exit code of the first problem with one of an engine's builds."""
    checks = EngineChecks(
        report, build.objects, lambda: _file_plan(build, here), lambda: _file_layout(build, sysroot)
    )
    return checks.run()


def _file_layout(build: FileTarget, sysroot: Path | None) -> Layout:
    """No graph is seen before a plan for another machine is made."""
    try:
        return build.layout(sysroot)
    except GraphNeeded as error:
        if not build.is_foreign:
            raise
        raise ProbeError(f"cannot be planned: {error.message}") from None


def _kernel() -> str:
    return f"Linux {platform.release()} on {platform.machine()}"


def _capabilities() -> str:
    missing = features.missing_capabilities()
    if missing:
        raise PrivilegeError(f"missing {', '.join(missing)}", "run profinfer as root (sudo)")
    return "sufficient"


def _audit() -> str:
    return f"{with_audit('')} (profinfer env says how to use it)"


def _process(pid: int, objects: list[EngineObject]) -> Finding:
    found = surroundings(pid)
    name = target.process_name(pid)
    data = {"process": {"pid": pid, "name": name, **found.to_json()}}
    try:
        objects += target.engine_objects(pid)
    except TargetError as error:
        return Finding("", data, error)
    return Finding("\n".join([f"{pid} ({name})", *found.describe()]), data)


def _files(paths: list[Path], files: list[FileTarget]) -> Finding:
    found, skipped = variants(paths)
    files += found
    lines = []
    for number, build in enumerate(found, 1):
        lines += [f"build {number} of {len(found)}:"] if len(found) > 1 else []
        lines += [item.path for item in build.objects]
    if found[0].is_foreign:
        lines.insert(0, f"for {found[0].machine}: recorded there, by a plan (profinfer plan)")
    data = {
        "machine": found[0].machine, "passed_over": skipped,
        "builds": [[item.path for item in build.objects] for build in found],
    }  # fmt: skip
    return Finding("\n".join([*lines, *(f"passed over: {why}" for why in skipped)]), data)


def _plan(objects: list[EngineObject], pid: int, here: Abilities) -> tuple[str, Plan]:
    placer = Placer(here.hit_cost(), pid)
    placer.redirection = read_redirection(pid)
    if placer.redirection.library:
        placer.record_by_stubs(here.stub_clock())
    plan = make_plan(objects, LEVELS[-1], placer)
    said = placer.say_stubs().replace("its stubs", "on; they")
    if said == "on":
        said = f"on; they can record themselves, without --counters: {COUNTED}"
    return f"stubs: {said}\n", plan


def _file_plan(engine: FileTarget, here: Abilities) -> tuple[str, Plan]:
    if not engine.is_foreign:
        return "", engine.plan(LEVELS[-1], cost=here.hit_cost())
    said = f"cost not measured: chosen by kind, {describe_ranks(engine.machine)}\n"
    return said, engine.plan(LEVELS[-1])
