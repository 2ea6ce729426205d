"""`profinfer record`: record a running process, or a command, into a trace."""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profinfer.commands.outputs import Outputs
from profinfer.config import (
    LEVELS,
    LOADERS,
    PROBES,
    SCHEDULERS,
    TRANSPORTS,
    WAYS,
    Config,
    load_config,
)
from profinfer.engine.adapter import use_adapter
from profinfer.engine.target import process_name
from profinfer.errors import OutputError, ProfinferError
from profinfer.kernel.privileges import allow_files, check_privileges
from profinfer.recording.recorded import Recorded
from profinfer.recording.recording import Recording
from profinfer.recording.result import Progress, Result, describe_status

if TYPE_CHECKING:
    from profinfer.recording.system_trace import SystemTrace

_EXAMPLES = """\
examples:
  profinfer record --pid 1234 -o trace.pftrace                 until Ctrl-C or its end
  profinfer record --pid 1234 --level barrier --duration 30
  profinfer record -o trace.pftrace -- llama-cli -m m.gguf -p "Hello" -n 64
  profinfer record --pid 1234 --follow                         and its workers
  profinfer record --pid 1234 --scheduler target               not who else uses the CPUs
  profinfer record --config run.yaml -- llama-server -m m.gguf
  profinfer record --pid 1234 --level barrier --counters stalls,page-faults
  profinfer record --system sched.pbtx -- llama-cli -m m.gguf    with what Perfetto records

levels, each including the ones before it:
  token      ubatches: prefill and decode, tokens, sequences, positions
  graph      graphs on every backend, and the structure of each
  operator   every operator on every CPU thread
  barrier    the wait for the other threads after each operator

beside them: who ran, who waited for a CPU and who took it (--scheduler)
counters, as perf names them; hardware events count user mode only unless :k or :uk says otherwise:
  cycles, LLC-load-misses, page-faults, sched:sched_switch   generic, cache, software, tracepoint
  r412e, l3d_cache_refill, cpu/event=0x2e,umask=0x41/        raw, a PMU's own
  {cycles,instructions}                                      at the same times, for ratios
  memory, stalls, faults                                     presets, by CPU (profinfer doctor)
"""


class RecordCommand:
    """Records until the duration is over, Ctrl-C, SIGTERM, or the target's end. A command is left
    running, and waited for where it may be about to end."""

    name = "record"
    help = "record a running process, or a command with all that it starts, into a Perfetto trace"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Flags without a value leave the configuration file's, or the default."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = _EXAMPLES
        parser.usage = "profinfer record [options] (--pid PID | -- COMMAND ...)"
        _add_settings(partial(parser.add_argument, default=argparse.SUPPRESS))
        parser.add_argument("--config", type=Path, metavar="FILE", help="YAML with any of these")

    def run(self, args: argparse.Namespace) -> int:
        """0 when a trace was recorded, whatever the command's own status."""
        given: dict[str, Any] = vars(args)
        settings = load_config(args.config) if args.config else {}
        settings |= {f.name: given[f.name] for f in fields(Config) if f.name in given}
        # Flags win: a target on the command line replaces the file's, of whichever kind.
        for flag, other in (("pid", "command"), ("command", "pid")):
            if flag in given and other not in given:
                settings.pop(other, None)
        config = Config(**settings)
        config.validate()
        use_adapter(config.adapter)
        check_privileges()
        outputs = Outputs(config)
        live = _LiveLine()
        try:
            with _beside(config) as system:
                result = _record(config, outputs, live)
                if system:
                    system.end()
                outputs.convert(live.show_converted)
                live.clear()
                _report(config, outputs, result)
                outputs.close()
                if system:
                    print(system.join(), end="", file=sys.stderr)
        finally:
            outputs.close()
        return 0


def _add_settings(add: Callable[..., object]) -> None:
    """The fields of a Config."""
    switch = partial(add, action="store_true")
    add("--pid", type=int, help="attach to this process")
    switch("--follow", help="and to what it starts and has started (stopped while it loads)")
    add("-o", "--output", metavar="FILE", help="the trace (default: profinfer.pftrace)")
    switch("--force", help="overwrite the output")
    add("--level", choices=LEVELS, help="how much to record (default: operator)")
    add("--adapter", metavar="FILE", help="YAML that says what an engine is, beside those known")
    switch("--strict", help="fail where the engine does not have all of these levels")
    scheduler = (
        "thread states, of the whole system (auto: where the kernel lets them be recorded), of the"
        " target's threads only, which costs less, or not at all"
    )
    add("--scheduler", choices=SCHEDULERS, help=scheduler)
    add("--duration", type=float, metavar="S", help="end after this many seconds")
    switch("--kill", help="end the command then (default: it is left running)")
    ubatches = "record only these ubatches, counted from 0, then end"
    add("--iterations", metavar="A-B", help=ubatches)
    switch("--experts", help="record which experts each token is sent to")
    switch("--expert-weights", help="and what the router gave each of them")
    globs = partial(add, nargs="+", metavar="GLOB")
    globs("--operator-names", help="write only operators with such a name")
    globs("--operator-ops", help='write only operators with such an op ("MUL*")')
    system = "record the system beside it (Perfetto TraceConfig, text)"
    add("--system", metavar="CONFIG", help=system)
    counters = "events or presets to count in every operator, comma-separated (see below)"
    add("--counters", action="append", metavar="NAMES", help=counters)
    add("--raw", metavar="FILE", help="keep the raw capture as well (for convert)")
    probes = (
        "how operators and barriers are seen: by stubs of the audit library that write the records"
        " themselves, by probes on these stubs, or by probes in the functions (default: by the"
        " first of these that can serve; the trace says why)"
    )
    add("--probes", choices=PROBES, help=probes)
    nothing = "probe operators and barriers but record none, to see what probing costs"
    switch("--empty-handlers", help=nothing)
    turns = "record for so many seconds, then not, in turn, to see what recording costs"
    add("--alternate", type=float, metavar="S", help=turns)
    loader = "what loads the BPF programs (default: libbpf, else bcc)"
    add("--loader", choices=LOADERS, help=loader)
    transport = "what records travel through (default: ring, where the kernel has it)"
    add("--transport", choices=TRANSPORTS, help=transport)
    attach = "how probes are attached (default: uprobe_multi, where the kernel has it)"
    add("--attach", choices=WAYS, help=attach)
    switch("--faults", help="record page faults, minor and major, with their address")
    switch("--block-io", help="record what is read from storage, and of which files")
    switch("--evict", help="drop the model's pages from memory first (to compare)")
    size = partial(add, metavar="SIZE")
    ring = "bytes of each CPU's ring; of recording stubs, of all of a process (default: 4M)"
    size("--ring-size", help=ring)
    size("--structure-ring-size", help="bytes of the ring for graph structure (default: 4M)")
    add("--poll", type=float, metavar="S", help="seconds between drains (default: 1)")
    add("--user", metavar="NAME", help="run the command as this user")
    add("command", nargs="*", help="what to run")


_RECENT_S = 2.0


class _LiveLine:
    """Says that the probes are in place; then one line that is rewritten while recording, where
    somebody watches."""

    def __init__(self) -> None:
        self.is_active = sys.stderr.isatty()
        self._recent = deque([Progress()])
        self._next = 0.0

    def begin(self, recorded: Recorded) -> None:
        self.clear()
        pid, probes = recorded.pid, len(recorded.plan.probes)
        print(f"recording {process_name(pid)} ({pid}), {probes} probes", file=sys.stderr)

    def show(self, now: Progress) -> None:
        """Rates of the last seconds: a slow model makes a token every now and then."""
        recent = self._recent
        recent.append(now)
        while now.seconds - recent[1].seconds >= _RECENT_S:
            recent.popleft()
        seconds = max(now.seconds - recent[0].seconds, 1e-9)
        tokens = (now.tokens - recent[0].tokens) / seconds
        records = (now.records - recent[0].records) / seconds
        self._put(
            f"{now.seconds:6.1f} s  {tokens:6.1f} tokens/s  {records:10,.0f} records/s"
            f"  {now.lost:,} lost  {now.bytes / 1e6:.1f} MB"
        )

    def show_converted(self, share: float) -> None:
        """While the trace is made: which share of it is."""
        if self.is_active and time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.5
            self._put(f"making the trace: {share:.0%}")

    def _put(self, line: str) -> None:
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.is_active:
            self._put("")


def _beside(config: Config) -> AbstractContextManager[SystemTrace | None]:
    if config.system is None:
        return nullcontext()
    from profinfer.recording.system_trace import SystemTrace  # here: as a rule nobody asks for it

    return SystemTrace(Path(config.system), Path(config.output))


def _record(config: Config, outputs: Outputs, live: _LiveLine) -> Result:
    try:
        with Recording(config, outputs.capture, _warn, _say, is_shown=live.is_active) as recording:
            allow_files()
            return recording.run(live.begin, live.show)
    except OutputError as error:
        raise OutputError(error.message, outputs.remedy()) from None
    except ProfinferError:
        outputs.convert(live.show_converted)  # as far as it went
        raise


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _warn(note: str) -> None:
    print(f"profinfer: warning: {note}", file=sys.stderr)


def _report(config: Config, outputs: Outputs, result: Result) -> None:
    if result.command_status is not None:
        print(f"{config.command[0]} {describe_status(result.command_status)}", file=sys.stderr)
    size = outputs.trace.size / 1e6
    print(
        f"{outputs.trace.path}: {size:.1f} MB, {result.records:,} records in"
        f" {result.seconds:.1f} s, {result.lost:,} lost ({result.reason})",
        file=sys.stderr,
    )
    for note in result.notes:
        _warn(note)
    if result.lost:
        print(
            "profinfer: warning: records were lost: the rings were full\n"
            "hint: a larger --ring-size, a shorter --poll, or a lower --level loses fewer",
            file=sys.stderr,
        )
