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

from profinfer.elf import Elf
from tests.conftest import REPO, require
from tests.emulated.initramfs import Content, tree
from tests.emulated.machine import boot
from tests.recorder.recording import make_plan

PYTHON = REPO / "build/python/aarch64"
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

# The engine answers one request, for which it waits until the recorder's probes are in place.
COMMAND = """
export PATH=$PATH:/usr/bin PYTHONPATH=/engine
mkfifo /tmp/requests
python3 /engine.py /model.gguf --serve --context 256 --threads {threads} </tmp/requests >answer &
engine=$!
exec 3>/tmp/requests
until grep -q ready answer; do kill -0 $engine || exit 1; usleep 100000; done
echo '{counters}' >/sys/kernel/tracing/uprobe_events || exit 1
echo 0 >/sys/kernel/tracing/tracing_on
echo 1 >/sys/kernel/tracing/events/uprobes/enable
recorder --pid $engine --plan /plan.json -o t.raw 2>said 3>&- &
recorder=$!
until grep -q ^recording said; do kill -0 $recorder || exit 1; usleep 100000; done
echo '{request}' >&3
exec 3>&-
wait $recorder
status=$?
cat said
cp /sys/kernel/tracing/uprobe_profile hits
exit $status
"""


@dataclass(frozen=True)
class Recorded:
    """A recorded request: the capture, the calls that the kernel counted, the engine's answer."""

    capture: bytes
    hits: dict[str, int]
    answer: dict[str, Any]
    said: str


def require_engine() -> None:
    """Skips where set-up has not fetched the engine, its Python, or what records it."""
    require("qemu-aarch64", shutil.which("qemu-aarch64"))
    for path in (PYTHON / "usr/bin/python3", ENGINES, MODEL, RECORDER):
        require(str(path.relative_to(REPO)), path.exists())


def record_engine(kernel: str, prompt: str, predict: int, threads: int = 2) -> Recorded:
    """Records one request to Gemma-3-270M at level barrier."""
    require_engine()
    (wheel,) = ENGINES.iterdir()
    (library,) = wheel.glob("xllamacpp/*.so")
    inside = f"/engine/{library.relative_to(wheel)}"
    elf = Elf(library)
    offsets = {name: elf.file_offset(elf.symbols[each].value) for name, each in COUNTED.items()}
    elf.close()
    counters = "\n".join(f"p:{name} {inside}:{offset:#x}" for name, offset in offsets.items())
    request = json.dumps({"prompt": prompt, "predict": predict})
    assert "'" not in request
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Content] = {
            **dict(tree(PYTHON)),
            **dict(tree(wheel, "/engine")),
            "/engine.py": REPO / "tools/engine.py",
            "/model.gguf": MODEL,
            "/bin/recorder": RECORDER,
            "/plan.json": make_plan(library, Path(folder) / "plan.json", "--sysroot", PYTHON),
        }
        command = COMMAND.format(counters=counters, request=request, threads=threads)
        result = boot(kernel, command, files, megabytes=2048, timeout=120).check()
    lines = (line.split() for line in result.files["hits"].decode().splitlines())
    answers = result.files["answer"].decode().splitlines()
    return Recorded(
        result.files["t.raw"],
        {name: int(hits) for *_, name, hits in lines},
        json.loads(answers[-1]),
        result.output,
    )


def main() -> None:
    kernel, output = sys.argv[1:]
    recorded = record_engine(kernel, "The history of the steam engine begins with", 16)
    Path(output).write_bytes(recorded.capture)
    print(recorded.said, recorded.hits, recorded.answer["timings"], sep="\n")


if __name__ == "__main__":
    main()
