"""`profinfer doctor`: what can be recorded here, what is missing, and the remedy."""

from __future__ import annotations

import argparse
import contextlib
import json
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
from profinfer.probes.files import FileTarget, variants
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

        parser.add_argument("--json", action="store_true", help="say it as JSON")

    def run(self, args: argparse.Namespace) -> int:
        """0 when level operator can be recorded of what was looked at (of several builds of one
        library, of one), else the exit code of the first problem that is in the way."""
        report = _Report(is_json=args.json)
        with contextlib.ExitStack() as stack:
            # Started when the first one asks.
            here = Abilities(cache(lambda: stack.enter_context(Server())))
            code = _look(args, here, report)
        report.end(code)
        return code


class _Report:
    """What was found: a line per check, or all of it as JSON."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._checks: list[dict[str, object]] = []

    def show(self, name: str, check: Callable[[], str], plan: Callable[[], Plan] | None) -> int:
        """Does a check; its exit code. `plan`: that it made, once it has."""
        try:
            text, mark, code, hint = check(), "ok", 0, ""
        except ProfinferError as error:
            text, mark, code, hint = error.message, "FAILS", error.exit_code, error.hint
        found: dict[str, object] = {"name": name, "code": code, "text": text, "hint": hint}
        if plan and not code:
            found["plan"] = plan().to_json()
        self._checks.append(found)
        if self._is_json:
            return code
        first, *rest = text.splitlines() or [""]
        print(f"{mark:5}  {name:13} {first}")
        for line in rest:
            print(f"{'':21}{line}")
        if hint:
            print(f"{'':21}hint: {hint}")
        return code

    def end(self, code: int) -> None:
        """The exit status is known, and nothing will follow."""
        if self._is_json:
            print(json.dumps({"works": code == 0, "code": code, "checks": self._checks}, indent=1))


_WORTH = "operator"
"""The level without which nothing is said to work."""
_OPTIONAL = ("tracefs", "counters", "scheduler", "memory", "audit library")
"""Level operator is recorded without."""


def _look(args: argparse.Namespace, here: Abilities, report: _Report) -> int:
    codes: list[int] = []
    files: list[FileTarget] = []
    objects: list[EngineObject] = []

    def show(name: str, check: Callable[[], str], plan: Callable[[], Plan] | None = None) -> int:
        code = report.show(name, check, plan)
        if name not in _OPTIONAL:
            codes.append(code)
        return code

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
        planned = _Planned(lambda: _plan(objects, args.pid, here))
        show("probe points", planned.text, planned.plan)
        show("layout", lambda: _layout(objects, args.pid))
    builds = [_look_at_build(build, args.sysroot, here, report) for build in files]
    codes.append(min(builds, key=bool, default=0))
    return next((code for code in codes if code), 0)


def _look_at_build(
    build: FileTarget, sysroot: Path | None, here: Abilities, report: _Report
) -> int:
    """The exit code of the first problem with one of an engine's builds."""
    planned = _Planned(lambda: _file_plan(build, here))
    codes = [
        report.show("probe points", planned.text, planned.plan),
        report.show("layout", lambda: _describe(build.layout(sysroot)), None),
    ]
    return next((code for code in codes if code), 0)


class _Planned:
    """A plan, and what is said of it."""

    def __init__(self, make: Callable[[], tuple[str, Plan]]) -> None:
        self._make = make
        self._plan: Plan | None = None

    def text(self) -> str:
        """ProbeError without the level that makes it worth while."""
        said, self._plan = self._make()
        if not self._plan.probes:
            raise ProbeError("none: " + self._plan.describe())
        if _WORTH in self._plan.missing:
            raise ProbeError(f"no operators:\n{said}{self._plan.describe()}")
        return said + self._plan.describe()

    def plan(self) -> Plan:
        """Once it has been asked for."""
        if self._plan is None:
            raise ValueError("there is no plan yet")
        return self._plan


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
    found, skipped = variants(paths)
    files += found
    lines = []
    for number, build in enumerate(found, 1):
        lines += [f"build {number} of {len(found)}:"] if len(found) > 1 else []
        lines += [
            f"{item.path}  build id {item.elf.build_id}, {len(item.elf.symbols):,} functions"
            for item in build.objects
        ]
    if found[0].is_foreign:
        lines.insert(0, f"for {found[0].machine}: recorded there, by a plan (profinfer plan)")
    return "\n".join([*lines, *(f"passed over: {why}" for why in skipped)])


def _plan(objects: list[EngineObject], pid: int, here: Abilities) -> tuple[str, Plan]:
    placer = Placer(here.hit_cost(), pid)
    placer.redirection = read_redirection(pid)
    plan = make_plan(objects, LEVELS[-1], placer)
    return f"stubs: {placer.redirection.reason or 'on'}\n", plan


def _file_plan(engine: FileTarget, here: Abilities) -> tuple[str, Plan]:
    if not engine.is_foreign:
        return "", engine.plan(LEVELS[-1], cost=here.hit_cost())
    said = f"cost not measured: chosen by kind, {describe_ranks(engine.machine)}\n"
    return said, engine.plan(LEVELS[-1])


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
