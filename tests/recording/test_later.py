"""What the engine loads while it is recorded has its probes, too, whatever was there before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from profinfer.records.capture import FrameKind
from tests.recorder.recording import frame_json
from tests.recording.helpers import record

FUSED = "ggml_compute_forward_rms_norm_mul_fused"
LATER = f"""
int ggml_init(void) {{ return 0; }}
void {FUSED}(void *params, void *first, void *last) {{
  __asm__ volatile("nop; nop" : : "r"(params), "r"(first), "r"(last) : "memory");
}}
"""
PROGRAM = """
import ctypes, sys
ctypes.CDLL(sys.argv[1])
fused = ctypes.CDLL(sys.argv[2])[sys.argv[3]]
for _ in range(7):
    fused(0, 1, 2)
"""


def test_a_handler_that_the_first_plan_had_no_probe_for(repo: Path, tmp_path: Path) -> None:
    first, later, source = tmp_path / "libfirst.so", tmp_path / "liblater.so", tmp_path / "later.c"
    source.write_text(LATER)
    engine = [repo / "tests/double" / name for name in ("ggml.c", "parts.c")]
    shared = ("gcc", "-std=gnu11", "-O2", "-fPIC", "-shared", "-pthread", "-o")
    for output, *words in ((first, f"-D{FUSED}=quiet", *engine), (later, source)):
        subprocess.run([*shared, *map(str, (output, *words))], check=True)
    raw = tmp_path / "t.raw"
    command = [sys.executable, "-c", PROGRAM, first, later, FUSED]
    record(tmp_path / "t.pftrace", ["--raw", raw], command)
    start, end = (frame_json(raw, kind) for kind in (FrameKind.START, FrameKind.END))
    # What there was in the beginning; the audit library is none of the engine's.
    assert [item["path"] for item in start["target"]["objects"]] == [str(first)]
    assert "on_fused" not in [probe["handler"] for probe in start["plan"]["probes"]]
    runs = {handler["handler"]: handler["runs"] for handler in end["handlers"]}
    assert runs["on_fused"] == 7
