"""What a recording is asked to do: defaults, then the YAML file, then the flags."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profinfer.errors import UsageError

if TYPE_CHECKING:
    import yaml

LEVELS = ("token", "graph", "operator", "barrier")
"""How much is recorded: each includes the ones before it."""
PROBES = ("auto", "recording", "stub", "direct")
SCHEDULERS = ("auto", "system", "target", "off")
LOADERS = ("auto", "libbpf", "bcc")
TRANSPORTS = ("auto", "ring", "perf")
WAYS = ("auto", "uprobe_multi", "perf_event")


@dataclass
class Config:
    """Every setting of a recording; the fields' names are the keys of the YAML file."""

    pid: int | None = None
    follow: bool = False
    """Record what this process has started and starts, too."""
    command: list[str] = field(default_factory=list)
    user: str | None = None
    """Run the command as this user (default: as whoever runs profinfer)."""
    kill: bool = False
    """End the command when the duration or the iterations are over (default: it runs on)."""
    output: str = "profinfer.pftrace"
    force: bool = False
    raw: str | None = None
    """Keep the raw records in this file as well."""
    system: str | None = None
    """Record the system beside it, by Perfetto's own recorder with this configuration (text)."""
    level: str = "operator"
    adapter: str | None = None
    """A YAML file that says what an engine is (CONTRIBUTING.md), beside those that are known."""
    strict: bool = False
    """Fail where the engine does not have all of the levels."""
    duration: float | None = None
    """Seconds."""
    iterations: str | None = None
    """Ubatches to record, counted from 0: "100" (one), "100-199", or "100-" (all from there)."""
    experts: bool = False
    """Record which experts each token is sent to (mixture-of-experts models)."""
    expert_weights: bool = False
    """Record what the router gave each of them as well."""
    operator_names: list[str] = field(default_factory=list)
    """Globs; operator slices are written only where one matches."""
    operator_ops: list[str] = field(default_factory=list)
    """Globs on the op ("MUL_MAT*")."""
    counters: list[str] = field(default_factory=list)
    """Events and presets to count in every operator, as perf names them: "cycles", "{a,b}" (at the
    same times), "memory"."""
    probes: str = "auto"
    """How calls of the hot functions are seen: "recording", by stubs of the audit library that
    write the records themselves where they can, else by probes; "stub", by probes on these stubs
    where every call passes one; "direct", by probes in the functions; "auto": as "recording", and
    where they cannot, by probes on stubs unless a hit in the function is cheaper on this
    machine."""
    empty_handlers: bool = False
    """Probe, but do nothing for operators and barriers (to see what probing alone costs)."""
    alternate: float = 0.0
    """Seconds of recording, and of not recording, in turn (to see what recording costs); 0: it is
    on all the time."""
    loader: str = "auto"
    """What puts the BPF programs into the kernel: "libbpf", "bcc", or the first that is usable."""
    transport: str = "auto"
    """What records travel through: "ring", "perf", or the first that this kernel has."""
    attach: str = "auto"
    """How probes are attached: "uprobe_multi" (one link for all places of a handler), "perf_event"
    (one per probe), or the first that this kernel has."""
    scheduler: str = "auto"
    """Which of the scheduler's doings are recorded: "system", everything on every CPU; "target",
    what involves the target's threads; "off", nothing; "auto": "system" where the kernel lets it be
    recorded."""
    faults: bool = False
    """Record the target's page faults, minor and major."""
    block_io: bool = False
    """Record what is read from storage into memory because of the target, file by file."""
    evict: bool = False
    """Drop the model's pages from memory first (for experiments)."""
    ring_size: str = "4M"
    """Bytes per CPU."""
    structure_ring_size: str = "4M"
    poll: float = 1.0
    """Seconds between drains."""

    def validate(self) -> None:
        """UsageError when a value cannot be."""
        if (self.pid is None) == (not self.command):
            raise UsageError(
                "give either --pid or a command",
                "profinfer record --pid 1234, or profinfer record -- llama-cli -m m.gguf",
            )
        if not self.output:
            raise UsageError("the output needs a name")
        if self.pid is not None and self.user:
            raise UsageError("--user goes with a command, not with --pid")
        if self.pid is None and self.follow:
            raise UsageError("--follow goes with --pid: what a command starts is recorded anyway")
        if self.pid is not None and self.kill:
            raise UsageError("--kill goes with a command, not with --pid: nobody else's is ended")
        _one_of("level", self.level, LEVELS)
        _one_of("loader", self.loader, LOADERS)
        _one_of("transport", self.transport, TRANSPORTS)
        if self.counters and LEVELS.index(self.level) < LEVELS.index("operator"):
            raise UsageError(
                f"counters are read in operators, which level {self.level} does not record",
                "--level operator, or barrier (which tells work and waiting apart)",
            )
        _one_of("attach", self.attach, WAYS)
        _one_of("probes", self.probes, PROBES)
        if self.probes == "recording" and (why := self._why_not_by_stubs()):
            raise UsageError(f"stubs cannot record: {why}", "--probes stub")
        _one_of("scheduler", self.scheduler, SCHEDULERS)
        self.experts |= self.expert_weights
        if self.experts and self.level not in ("operator", "barrier"):
            raise UsageError(
                f"experts are read where operators begin, and level {self.level} has none",
                "record --level operator --experts",
            )
        if self.duration is not None and not self.duration > 0:
            raise UsageError("the duration must be positive")
        if self.alternate and not 0.05 <= self.alternate <= 60:
            raise UsageError("alternate must be between 0.05 and 60 seconds")
        if self.alternate and (self.iterations is not None or self.faults or self.block_io):
            raise UsageError("alternate goes without iterations, faults and block_io")
        if not 0.001 <= self.poll <= 10:
            raise UsageError("poll must be between 0.001 and 10 seconds")
        self.ring_bytes()
        self.structure_ring_bytes()
        self.iteration_range()

    @property
    def by_stubs(self) -> bool:
        """Whether stubs are to record, where they can."""
        return self.probes in ("auto", "recording") and not self._why_not_by_stubs()

    def _why_not_by_stubs(self) -> str:
        """What is asked for that only probes have."""
        if LEVELS.index(self.level) < LEVELS.index("operator"):
            return f"level {self.level} has no operators"
        return "--empty-handlers needs probes" if self.empty_handlers else ""

    def needed_levels(self) -> dict[str, str]:
        """Levels without which something else that is asked for cannot be had, and what that is."""
        needed = {"token": "--iterations"} if self.iterations is not None else {}
        if self.counters:
            needed["operator"] = "--counters"
        elif self.experts:
            needed["operator"] = "--experts"
        return needed

    def ring_bytes(self) -> int:
        """Size of each ring in bytes."""
        return parse_size("ring_size", self.ring_size)

    def scheduler_ring_bytes(self) -> int:
        """Size of each of the scheduler's rings in bytes: it makes fewer records."""
        return max(4096, self.ring_bytes() // 4)

    def structure_ring_bytes(self) -> int:
        """Size of the structure ring in bytes."""
        return parse_size("structure_ring_size", self.structure_ring_size)

    def iteration_range(self) -> tuple[int, int]:
        """First ubatch and the one after the last; (0, 0) for all."""
        if self.iterations is None:
            return 0, 0
        match = re.fullmatch(r"(\d+)(?:(-)(\d*))?", str(self.iterations).strip())
        if not match:
            raise UsageError(
                f"iterations {self.iterations!r} is not a range", 'write "100", "100-199" or "100-"'
            )
        first = int(match[1])
        last = first if not match[2] else int(match[3]) if match[3] else (1 << 62) - 2
        if last >= 1 << 62:
            raise UsageError(f"iterations {self.iterations!r} is too large")
        if last < first:
            raise UsageError(f"iterations {self.iterations!r} ends before it begins")
        return first, last + 1


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        raise UsageError(
            f"{name} cannot be {value!r}",
            f"did you mean {near[0]}?" if near else f"it is one of {', '.join(known)}",
        )


def parse_size(name: str, text: object) -> int:
    """Bytes of "4M", "512K" or 4194304, which BPF rings want as a power of two of whole pages."""
    match = re.fullmatch(r"(\d+)\s*([KMG]?)i?B?", str(text).strip(), re.IGNORECASE)
    if not match:
        raise UsageError(f"{name} {text!r} is not a size", "write 4M, 512K or a number of bytes")
    size = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]
    if size < 4096 or size > 1 << 30 or size & (size - 1):
        raise UsageError(f"{name} {text!r} must be a power of two between 4K and 1G")
    return size


_TYPES: dict[str, tuple[type, ...]] = {
    "int | None": (int, type(None)),
    "list[str]": (list,),
    "str | None": (str, type(None)),
    "str": (str,),
    "bool": (bool,),
    "float | None": (float, int, type(None)),
    "float": (float, int),
}
_ALSO_NUMBERS = {"iterations", "ring_size", "structure_ring_size"}


def load_config(path: Path) -> dict[str, Any]:
    """Settings of a YAML file. UsageError, with the line, for anything that is not a setting."""
    import yaml  # here: who gives flags only does without

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{path} must be a mapping of settings")
    known = {f.name: str(f.type) for f in fields(Config)}
    result: dict[str, Any] = {}
    for key_node, value_node in root.value:
        key = str(key_node.value).replace("-", "_")
        line = key_node.start_mark.line + 1
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise UsageError(
                f"{path}, line {line}: there is no setting {key_node.value!r}",
                f"the nearest is {near[0]!r}; all of them: {', '.join(known)}",
            )
        if key in result:
            raise UsageError(f"{path}, line {line}: {key} is set twice")
        value = _plain(value_node, f"{path}, line {line}: {key}")
        if key in _ALSO_NUMBERS and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, list):
            value = [str(item) for item in value]
        types = _TYPES[known[key]]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise UsageError(f"{path}, line {line}: {key} cannot be {value!r}, it is {known[key]}")
        result[key] = value
    return result


def _plain(node: yaml.Node, where: str) -> Any:
    import yaml

    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise UsageError(f"{where} is not a plain value") from None
    finally:
        loader.dispose()
