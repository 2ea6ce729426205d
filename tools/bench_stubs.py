"""What stubs that record cost where operators are known, and what they cost while they are off."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from bench_engine import ROOT, Engine, RecorderProcess, audit_environment
from bench_turns import Interval, durations, interval, logarithms, phases, ratio

from profinfer.recording.recorder import Server

_LAYERS = 100
"""So many that the probes at a graph's ends, a few in thousands of hits, do not count."""
_PAUSE_US = 4000
"""After each graph: two million records in a second are more than rings have room for."""
_KNOWN = (
    "--even", "1", "--threads", "1", "--layers", str(_LAYERS), "--prompt", "0", "--ubatch", "1",
    "--rebuild", str(1 << 30), "--pause-us", str(_PAUSE_US),
)  # fmt: skip
_TRIED = 100
"""Graphs by which it is seen how long one takes."""
_FIRST = 8
"""Tokens of the request before the one that is measured."""


def _run(double: Path, graphs: int, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [double / "known", *_KNOWN, "--decode", str(graphs)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def _truth(
    known: subprocess.Popen[str],
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int64]], int]:
    """Of the double: start and end of its graphs, and hits of the three hot functions in each."""
    said = json.loads(known.communicate()[0])
    graphs = np.array([graph[-2:] for graph in said["graphs"]], np.int64)
    names = ("ggml_cpu_extra_compute_forward", "ggml_compute_forward_rms_norm_mul_fused")
    hits = sum(said["calls"][name] for name in (*names, "ggml_barrier"))
    return graphs, hits // len(graphs)


class Hits:
    """Of a stub that records, among operators of 1 us: recorded in turn."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._found: list[float] = []
        self.lost = 0
        self._environment = audit_environment()
        subprocess.run([ROOT / "tests/double/build.sh", directory / "double"], check=True)
        graphs, _ = _truth(_run(directory / "double", _TRIED, {}))
        self._graph_s = float(np.median(graphs[:, 1] - graphs[:, 0])) / 1e9

    def measure(self, seconds: float, each: float) -> Interval:
        """More of them; ns a hit, of all so far."""
        trace, raw = self._directory / "hits.pftrace", self._directory / "hits.raw"
        known = _run(
            self._directory / "double",
            int(seconds / (self._graph_s + _PAUSE_US / 1e6)),
            self._environment,
        )
        options = ("--level", "barrier", "--scheduler", "auto", "--probes", "recording",
                   "--alternate", str(each), "--raw", str(raw), "--strict")  # fmt: skip
        recorder = RecorderProcess(known.pid, trace, options)
        try:
            graphs, hits = _truth(known)
            self.lost += recorder.end(is_over=True)
        finally:
            recorder.close()
            known.kill()
        found = phases(raw)
        # The middle one: whoever takes a graph's CPU adds a multiple of what is measured.
        means = durations(graphs[:, 0], graphs[:, 1], found, np.median)
        pairs = zip(means, found, strict=True)
        off = float(np.median([mean for mean, phase in pairs if mean and not phase.is_on]))
        self._found += [off * (np.exp(-log) - 1) / hits for log in logarithms(means, found)]
        return interval(self._found)


def off_stub_ns() -> float:
    """A call by way of a stub that is off, over one without a stub, in a loop."""
    with Server() as server:
        means = server.ask("means", loader="auto", transport="auto", attach="auto")
        kinds = ["recording", "stepped"]
        return float(server.ask("hit_costs", attach=means["attach"], kinds=kinds)["stub_off_ns"])


def process_pairs(model: Path, threads: int, predict: int, pairs: int) -> Interval:
    """Decode speed of fresh processes with the audit library over without, nobody recording."""
    logs = []
    environments: tuple[dict[str, str], ...] = ({}, audit_environment())
    for pair in range(pairs):
        took = [0.0, 0.0]
        for which in (0, 1) if pair % 2 else (1, 0):
            engine = Engine(threads, model, environments[which])
            try:
                engine.token_times(_FIRST)  # reads the model
                times = engine.token_times(predict)
                took[which] = (times[-1] - times[0]) / (len(times) - 1)
            finally:
                engine.close()
        logs.append(float(np.log(took[0] / took[1])))
    return ratio(logs)
