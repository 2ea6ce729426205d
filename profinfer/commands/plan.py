"""`profinfer plan`: what a recorder without Python needs, from copies of an engine's libraries."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from profinfer.config import LEVELS, Config
from profinfer.engine.adapter import use_adapter
from profinfer.kernel.counters import Wanted, want
from profinfer.kernel.presets import cpu_names, planned_pmus
from profinfer.output import Output
from profinfer.probes.files import FileTarget
from profinfer.probes.plan import check
from profinfer.probes.plan_file import dump, plan_json

_EXAMPLES = """\
examples:
  profinfer plan --target libknown.so -o plan.json
  adb pull /data/llama/lib board && profinfer plan --target board --sysroot arm64-root
  PROFINFER_SYSROOT_AARCH64=arm64-root profinfer plan --target board/*.so --level operator
  profinfer plan --target board --counters stalls,memory --cpu cortex-a76

Struct layouts are found by loading the libraries in a confined process of another user. Those of
another processor, or of a system with another libc, are loaded in the root directory of a small
system that has what they need (libc, libstdc++, libgomp); another processor takes qemu-user, too:
  tools/fetch_root.py aarch64 bookworm arm64-root
On the target: profinfer-recorder --pid N --plan plan.json -o capture.raw. Back here:
  profinfer convert capture.raw trace.pftrace
"""


class PlanCommand:
    """Plans a recording of an engine that need not run here, nor even be able to."""

    name = "plan"
    help = "plan a recording on another machine, from copies of the engine's libraries"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Files, where the plan goes, and how much it covers."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = _EXAMPLES
        parser.add_argument(
            "--target", nargs="+", type=Path, required=True, metavar="FILE",
            help="the engine's libraries, or folders that hold them",
        )  # fmt: skip
        parser.add_argument(
            "-o", "--output", type=Path, default=Path("plan.json"), metavar="FILE",
            help="the plan (default: plan.json)",
        )  # fmt: skip
        parser.add_argument("--force", action="store_true", help="overwrite the output")
        parser.add_argument(
            "--level", choices=LEVELS, default=LEVELS[-1],
            help="the most that can then be recorded (default: everything)",
        )  # fmt: skip
        parser.add_argument(
            "--adapter", metavar="FILE",
            help="YAML that says what an engine is, beside those known",
        )  # fmt: skip
        parser.add_argument(
            "--strict", action="store_true",
            help="fail where the engine does not have all of these levels",
        )  # fmt: skip
        parser.add_argument(
            "--sysroot", type=Path, metavar="DIR",
            help="root of the system that the libraries are loaded in (default: this one's; for"
            " another processor's libraries $PROFINFER_SYSROOT_AARCH64 or ..._X86_64)",
        )  # fmt: skip
        parser.add_argument(
            "--counters", action="append", metavar="NAMES",
            help="events or presets to count in every operator, as for record",
        )  # fmt: skip
        parser.add_argument(
            "--cpu", action="append", choices=cpu_names(),
            help="which CPUs the other machine has, for presets that depend on it",
        )  # fmt: skip

    def run(self, args: argparse.Namespace) -> int:
        """0 when the plan was written."""
        use_adapter(args.adapter)
        target = FileTarget(args.target)
        plan = target.plan(args.level)
        left_out = check(plan, strict=args.strict)
        output = Output(args.output, force=args.force)
        try:
            layout = target.layout(args.sysroot)
            config = Config(level=args.level, adapter=args.adapter, strict=args.strict)
            machine = target.machine.replace("x86-64", "x86_64")
            counted = _counted(args.counters, machine, args.cpu or ())
            written = plan_json(target, plan, layout, config, counted)
            output.append(dump(written))
        finally:
            output.close()
        print(
            f"{args.output}: ggml {layout.version or '(no version)'} for {written['machine']},"
            f" {len(plan.probes)} probes in {len(target.objects)} files; cost {written['cost']}"
        )
        print(plan.describe())
        for note in [*left_out, *layout.notes, *(counted.notes if counted else ())]:
            print(f"profinfer: warning: {note}", file=sys.stderr)
        return 0


def _counted(names: Sequence[str] | None, machine: str, cpus: Sequence[str]) -> Wanted | None:
    """The counters of --counters; which of them exist the recorder finds out."""
    if not names:
        return None
    return want(names, planned_pmus(machine), {0: frozenset(cpus)}, foreign=True)
