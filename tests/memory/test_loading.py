"""A real engine loads its model in each of the ways there are: mapped for a moment, read, read past
the page cache, repacked, from swap; the trace against the kernel's and the engine's own counts."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import pytest

from profinfer.trace_processor import open_trace
from tests.conftest import require
from tests.recording.helpers import PROFINFER, number
from tests.recording.test_real_memory import memory_limit
from tests.sql.harness import MODULES, ready
from tests.support import ENGINE_ONLY

LOADING = Path(__file__).with_name("loading.py")
TIMEOUT = 120
PAGE = os.sysconf("SC_PAGESIZE")
SWAP, LIMIT = 128 << 20, 44 << 20
"""The engine in this folder takes 60 MB, of which 42 are weights."""
BUFFER = re.compile(r"(\w+) model buffer size = +([\d.]+) MiB")


def make(repo: Path, path: Path, **shape: int) -> Path:
    words = [
        word for name, size in shape.items() for word in (f"--{name.replace('_', '-')}", str(size))
    ]
    subprocess.run(
        [sys.executable, repo / "tools/make_dense_gguf.py", path, *words],
        check=True,
        timeout=TIMEOUT,
    )
    return path


@pytest.fixture(scope="module")
def small(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is loaded in some milliseconds."""
    folder = tmp_path_factory.mktemp("small")
    return make(repo, folder / "m.gguf", layers=2, embd=256, ff=512, heads=4, kv_heads=4, vocab=300)


@pytest.fixture(scope="module")
def model(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return make(
        repo, folder / "m.gguf", layers=4, embd=1024, ff=2816, heads=8, kv_heads=4, vocab=16000
    )


@dataclass
class Run:
    """A recording, and what else is known of it."""

    trace: Path
    truth: dict[str, Any]
    log: str
    said: str

    def tables(self, name: str) -> list[list[dict[str, object]]]:
        with open_trace(self.trace) as session:
            return list(ready(session, name).values())

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        include = "".join(f"INCLUDE PERFETTO MODULE {name};\n" for name in MODULES)
        with open_trace(self.trace) as session:
            return [tuple(row) for row in session.query(include + statement)]


class Killed(Exception):
    """The engine, by the kernel."""


def run(folder: Path, model: Path, *words: str, before: str = "") -> Run:
    """Records the engine with its defaults; nothing of the model is in memory. `before`: what a
    shell does first."""
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    require("root (to attach BPF programs)", os.geteuid() == 0)
    with model.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    trace, log = folder / "t.pftrace", folder / "log"
    command = ["sh", "-c", f'{before or ":"} && exec "$@" 2>{log}', "sh", sys.executable, LOADING]
    done = subprocess.run(
        [*PROFINFER, "record", *ENGINE_ONLY, "--faults", "--block-io", "--ring-size", "16M",
         "--force", "-o", str(trace), "--", *map(str, command), *words],
        env=os.environ | {"MODEL": str(model)},
        capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if "was ended by SIGKILL" in done.stderr:
        raise Killed
    assert done.stdout, f"{done.stderr}\n{log.read_text()}"
    return Run(trace, json.loads(done.stdout), log.read_text(errors="replace"), done.stderr)


def buffers(log: str) -> dict[str, int]:
    """Bytes of weights by buffer, as the engine says it, to a hundredth of a MiB."""
    return {name: int(float(size) * (1 << 20)) for name, size in BUFFER.findall(log)}


def test_a_small_model_that_is_mapped_for_a_moment_is_known(small: Path, tmp_path: Path) -> None:
    for _ in range(3):
        found = run(tmp_path, small, "mmap")
        [total], tensors, _, _, _, untold = found.tables("model_io")
        assert (total["incomplete"], untold) == (0, [])
        # Every page once.
        assert total["of_models_bytes"] == -(-small.stat().st_size // PAGE) * PAGE
        assert len(tensors) == len(gguf.GGUFReader(small).tensors)
        [places] = found.tables("memory")[1:]
        assert [(row["place"], row["incomplete"]) for row in places] == [(str(small), 0)]


def test_a_model_that_is_read_is_known_by_its_open_file(model: Path, tmp_path: Path) -> None:
    found = run(tmp_path, model, "read")
    [total], tensors, _, files, past, untold = found.tables("model_io")
    assert (total["incomplete"], past, untold) == (0, [], [])
    assert total["of_models_bytes"] == -(-model.stat().st_size // PAGE) * PAGE
    assert abs(number(total["read_bytes"]) - found.truth["read_bytes"]) < 2 << 20
    assert str(model) in [row["file"] for row in files]
    sizes = {t.name: int(t.n_bytes) for t in gguf.GGUFReader(model).tensors}
    assert {row["tensor"]: row["read_bytes"] for row in tensors} == sizes
    # Nothing of it is mapped: all weights lie outside, once.
    [outside] = found.tables("memory")[1]
    assert (outside["weights"], outside["also_mapped_mb"]) == (len(sizes), 0)
    assert outside["mb"] == round(sum(sizes.values()) / 1e6, 2)


def test_what_is_read_past_the_page_cache_is_said(model: Path, tmp_path: Path) -> None:
    found = run(tmp_path, model, "direct")
    require("a file system with direct I/O", found.truth["read_bytes"] > model.stat().st_size / 2,
            hardware=True)  # fmt: skip
    [total], *_, past, _ = found.tables("model_io")
    missed = found.truth["read_bytes"] - number(total["read_bytes"])
    assert missed > 0.9 * model.stat().st_size
    assert missed <= number(total["past_cache_bytes"]) < missed + (4 << 20)
    kernel, direct = past
    assert (kernel["bytes"], kernel["path"]) == (total["past_cache_bytes"], None)
    assert (direct["what"], direct["path"]) == ("open for direct I/O", str(model))
    [said] = re.findall(r"has read (?:at least )?([\d.]+) MB, of which ([\d.]+) MB", found.said)
    assert abs(float(said[0]) - found.truth["read_bytes"] / 1e6) < 4
    assert abs(float(said[1]) - number(total["read_bytes"]) / 1e6) < 0.1


def test_weights_that_are_repacked_are_the_engines_own_count(model: Path, tmp_path: Path) -> None:
    found = run(tmp_path, model, "mmap", "repack")
    repacked = buffers(found.log).get("CPU_REPACK")
    require("a processor for which weights are repacked", repacked, hardware=True)
    assert repacked
    weights = found.ask(
        "SELECT name, bytes, in_file, twice,"
        " (SELECT count(DISTINCT address / 4096) FROM profinfer_fault AS f"
        "  WHERE f.weight_id = w.weight_id) FROM profinfer_weight AS w"
    )
    sizes = {t.name: int(t.n_bytes) for t in gguf.GGUFReader(model).tensors}
    assert {name: size for name, size, *_ in weights} == sizes
    outside = [row for row in weights if not row[2]]
    assert abs(sum(row[1] for row in outside) - repacked) < 1 << 14
    # They lie twice, and were written once, page by page.
    assert {row[3] for row in outside} == {1}
    assert all(abs(pages - size / PAGE) <= 1 for _, size, _, _, pages in outside)
    in_file = found.ask(
        "SELECT w.name = t.name AND w.bytes = t.bytes FROM profinfer_weight AS w"
        " LEFT JOIN profinfer_model_tensor AS t ON t.file = w.file AND t.offset = w.offset"
        " WHERE w.in_file"
    )
    assert in_file == [(1,)] * (len(weights) - len(outside))
    places = found.tables("memory")[1]
    [mapped] = [row for row in places if row["place"] == str(model)]
    [beside] = [row for row in places if row is not mapped]
    assert (mapped["weights"], beside["weights"]) == (len(in_file), len(outside))
    assert beside["also_mapped_mb"] == beside["mb"] == round(sum(r[1] for r in outside) / 1e6, 2)


@contextmanager
def swap(folder: Path) -> Iterator[None]:
    """Some more, for whoever needs it: here that is one process alone."""
    file = folder / "swap"
    file.write_bytes(bytes(SWAP))
    file.chmod(0o600)
    made = subprocess.run(["mkswap", file], capture_output=True, check=False, timeout=TIMEOUT)
    on = (
        made.returncode
        or subprocess.run(
            ["swapon", file], capture_output=True, check=False, timeout=TIMEOUT
        ).returncode
    )
    require("swap in a file", not on, hardware=True)
    try:
        yield
    finally:
        subprocess.run(["swapoff", file], check=True, timeout=TIMEOUT)


def run_in(group: Path, folder: Path, model: Path) -> Run:
    """The same in a group with little memory: the kernel kills who is not given any at once, which
    may be while all of it is on its way to swap."""
    for _ in range(3):
        with suppress(Killed):
            return run(folder, model, "read", before=f"echo $$ >{group}/cgroup.procs")
    pytest.fail("the engine was killed three times")


def test_weights_that_come_from_swap_are_named(model: Path, tmp_path: Path) -> None:
    require("root, which swap needs", os.geteuid() == 0)
    with swap(tmp_path), memory_limit(LIMIT) as group:
        found = run_in(group, tmp_path, model)
    [major, _], _, tensors, _ = found.tables("faults")
    truth = found.truth["major"]
    require("memory that is swapped out", truth > 100, hardware=True)
    (since, begin), (end, until) = found.truth["begin"], found.truth["end"]
    faults = found.ask("SELECT ts, of_no_file FROM profinfer_fault WHERE kind = 'major'")
    seen = [(number(ts), number(no_file)) for ts, no_file in faults if since <= number(ts) <= until]
    least, of_no_file = sum(begin <= ts <= end for ts, _ in seen), sum(each for _, each in seen)
    assert least <= truth <= len(seen) < truth + 50
    assert of_no_file > 0.5 * truth
    assert major["swap_mb"] == round(number(major["no_file"]) * PAGE / 1e6, 2)
    assert 0 < number(major["in_models"]) <= number(major["no_file"])
    assert {row["place"] for row in tensors} == {"outside the file"}
    # Each fault reads more than its page.
    [total], *_, past, _ = found.tables("model_io")
    missed = found.truth["read_bytes"] - number(total["read_bytes"])
    assert number(total["past_cache_bytes"]) >= missed
    assert number(total["past_cache_bytes"]) >= of_no_file * PAGE
    assert [row["what"] for row in past] == [
        "from swap or direct I/O, by the kernel's count",
        "from swap, by major faults in memory of no file",
    ]
    assert "from swap or direct I/O" in found.said
