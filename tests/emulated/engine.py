"""A real engine on an emulated arm64 machine: llama.cpp in Python, recorded by the recorder in C.

    python -m tests.emulated.engine arm64-6.12 out/arm64.raw

makes a capture to look at: `profinfer convert out/arm64.raw out/arm64.pftrace`.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profinfer.binaries.elf import Elf
from tests.conftest import REPO, require
from tests.emulated.initramfs import Content, tree
from tests.emulated.machine import Result
from tests.emulated.machines import Machines, Setting, Task, Work, Workshop
from tests.recorder.recording import make_plan

PYTHON = REPO / "build/python/aarch64"
SYSROOT = REPO / "build/roots/aarch64-bookworm"
ENGINES = REPO / "build/engines/aarch64"
MODEL = REPO / "build/models/gemma-3-270m-q4_k_m.gguf"
RECORDER = REPO / "build/aarch64/profinfer-recorder-static"

COUNTED = {
    "graph": "ggml_backend_graph_compute_async",
    "operator": "ggml_cpu_extra_compute_forward",
    "fused": "ggml_compute_forward_rms_norm_mul_fused",
    "barrier": "ggml_barrier",
}
"""Functions whose calls the kernel counts by itself, by means that share nothing with ours."""

# The engine answers a request twice: alone, and once the recorder says that its probes are there.
COMMAND = """
export PATH=$PATH:/usr/bin PYTHONPATH=/engine
answered() {{
    until [ $(wc -l <answers) -gt $1 ]; do kill -0 $engine || exit 1; usleep 100000; done
}}
mkfifo /tmp/requests
python3 /engine.py /model.gguf --serve --context 256 --threads 2 </tmp/requests >answers &
engine=$!
exec 3>/tmp/requests
answered 0
echo '{request}' >&3
answered 1
echo '{counters}' >/sys/kernel/tracing/uprobe_events
echo 0 >/sys/kernel/tracing/tracing_on
[ -z '{counters}' ] || echo 1 >/sys/kernel/tracing/events/uprobes/enable || exit 1
recorder --pid $engine --plan /plan.json -o t.raw 2>said 3>&- &
recorder=$!
until grep -q ^recording said; do kill -0 $recorder || exit 1; usleep 100000; done
echo '{request}' >&3
answered 2
sed -n 's/VmHWM:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$recorder/status >peak
exec 3>&-
wait $recorder
status=$?
cat said
cp /sys/kernel/tracing/uprobe_profile hits
exit $status
"""


@dataclass(frozen=True)
class Recorded:
    """The capture of a request, and what is known of it otherwise."""

    capture: bytes
    hits: dict[str, int]
    """Calls that the kernel has counted, by the names in COUNTED."""
    alone: dict[str, Any]
    answer: dict[str, Any]
    """The engine's answer and timings, first without the recorder, then with it."""
    peak_kb: int
    """The most memory that the recorder had resident."""
    said: str


def require_engine() -> None:
    """Skips where set-up has not fetched the engine, its Python, or what records it."""
    require("qemu-aarch64", shutil.which("qemu-aarch64"))
    for path in (PYTHON / "usr/bin/python3", SYSROOT, ENGINES, MODEL, RECORDER):
        require(str(path.relative_to(REPO)), path.exists())


@dataclass(frozen=True)
class EngineWork:
    """One request to Gemma-3-270M on two threads at level barrier.

    With `count` the kernel counts calls as well, by probes of its own, which makes them slower.
    """

    prompt: str
    predict: int
    count: bool

    def __call__(self, workshop: Workshop, _: Task) -> Work:
        require_engine()
        (wheel,) = ENGINES.iterdir()
        (library,) = wheel.glob("xllamacpp/*.so")
        request = json.dumps({"prompt": self.prompt, "predict": self.predict})
        assert "'" not in request
        inside = f"/engine/xllamacpp/{library.name}"
        command = COMMAND.format(
            request=request, counters=_counters(library, inside) if self.count else ""
        )
        plan = workshop.once(
            "engine-plan",
            lambda folder: make_plan(library, folder / "plan.json", "--sysroot", SYSROOT),
        )
        files: dict[str, Content] = {
            **dict(tree(PYTHON)),
            **dict(tree(library.parent, "/engine/xllamacpp")),
            "/engine.py": REPO / "tools/engine.py",
            "/model.gguf": MODEL,
            "/bin/recorder": RECORDER,
            "/plan.json": plan,
        }
        return Work(command, files)


def engine_task(kernel: str, prompt: str, predict: int, *, count: bool) -> Task:
    """A recording of a real engine, on a machine of its own."""
    setting = Setting(megabytes=2048, alone="engine")
    return Task(kernel, "engine", EngineWork(prompt, predict, count), setting)


def recorded(result: Result) -> Recorded:
    """What has come of it."""
    result.check()
    hits = (line.split() for line in result.files["hits"].decode().splitlines())
    _, alone, answer = result.files["answers"].decode().splitlines()
    return Recorded(
        result.files["t.raw"],
        {name: int(number) for *_, name, number in hits},
        json.loads(alone),
        json.loads(answer),
        int(result.files["peak"]),
        result.output,
    )


def _counters(library: Path, inside: str) -> str:
    """Lines for uprobe_events: a counter on each function's first instruction."""
    elf = Elf(library)
    offsets = {name: elf.file_offset(elf.symbols[each].value) for name, each in COUNTED.items()}
    elf.close()
    return "\n".join(f"p:{name} {inside}:{offset:#x}" for name, offset in offsets.items())


def main() -> None:
    kernel, output = sys.argv[1:]
    prompt = "The history of the steam engine begins with"
    task = engine_task(kernel, prompt, 16, count=False)
    with tempfile.TemporaryDirectory() as folder:
        machines = Machines([task], Workshop(Path(folder)))
        found = recorded(machines.result(task))
        machines.close()
    Path(output).write_bytes(found.capture)
    print(found.said, f"recorder: at most {found.peak_kb} kB resident", sep="")
    for which, answer in (("alone", found.alone), ("recorded", found.answer)):
        print(f"{which}: {answer['timings']['predicted_per_second']:.2f} tokens/s")


if __name__ == "__main__":
    main()
