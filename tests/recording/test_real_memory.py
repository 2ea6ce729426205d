"""A real engine under a memory limit, and with a growing context: what the trace says of faults,
reads and attention, against the kernel's and the engine's own counts."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from profinfer.trace_processor import open_trace
from tests.conftest import require
from tests.recording.helpers import PROFINFER, number, record
from tests.sql.harness import ready
from tests.support import ENGINE_ONLY

LIMIT = 160 << 20
"""What the engine gets: room for itself and less than half of the model."""
SHAPE = {"layers": 3, "embd": 512, "experts": 60, "used": 4, "width": 768}
PREDICT = 6
PREPARE = (
    "INCLUDE PERFETTO MODULE profinfer.memory.paging; "
    "INCLUDE PERFETTO MODULE profinfer.graphs.tensors"
)
V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


@contextmanager
def memory_limit(size: int) -> Iterator[Path]:
    """A memory cgroup; what writes its pid into cgroup.procs there has `size` bytes."""
    require("root, which cgroups need", os.geteuid() == 0)
    is_v2 = (V2 / "cgroup.controllers").is_file()
    if is_v2:
        require(
            "the memory controller of cgroup v2",
            "memory" in (V2 / "cgroup.subtree_control").read_text().split(), hardware=True,
        )  # fmt: skip
    else:
        require("a memory cgroup (v1 or v2)", (V1 / "cgroup.procs").is_file(), hardware=True)
    group = (V2 if is_v2 else V1) / f"profinfer-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.max" if is_v2 else "memory.limit_in_bytes")).write_text(str(size))
        yield group
    finally:
        group.rmdir()


class Limited:
    """One request to a model that does not fit into the memory there is, and what the kernel has
    counted of the engine between two instants at which it did nothing: just before the recording,
    and just before its end."""

    def __init__(self, repo: Path, folder: Path) -> None:
        self.model, trace = folder / "moe.gguf", folder / "t.pftrace"
        shape = [word for name, size in SHAPE.items() for word in (f"--{name}", str(size))]
        subprocess.run(
            [sys.executable, repo / "tools/make_moe_gguf.py", self.model, *shape],
            check=True, timeout=200,
        )  # fmt: skip
        os.sync()
        with memory_limit(LIMIT) as group, self.serving(repo, group) as engine:
            assert engine.stdin
            before = self.said(engine)["io"]
            with recording(engine.pid, trace) as recorder:
                engine.stdin.write(json.dumps({"prompt": "a b c", "predict": PREDICT}) + "\n")
                engine.stdin.flush()
                self.said(engine)
                after = self.said(engine)["io"]
                recorder.send_signal(signal.SIGINT)
                notes = recorder.communicate(timeout=250)[1]
                assert recorder.returncode == 0, notes
        self.kernel = {name: after[name] - before[name] for name in before}
        self.session = open_trace(trace)

    @contextmanager
    def serving(self, repo: Path, group: Path) -> Iterator[subprocess.Popen[str]]:
        """The engine, in the cgroup."""
        command = [
            sys.executable, repo / "tools/engine.py", self.model, "--serve", "--io", "--no-repack",
            "--context", 256,
        ]  # fmt: skip
        engine = subprocess.Popen(
            ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *map(str, command)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert engine.stdout
            assert engine.stdout.readline() == "ready\n"
            yield engine
        finally:
            engine.kill()
            engine.communicate()

    def said(self, engine: subprocess.Popen[str]) -> dict[str, Any]:
        assert engine.stdout
        found: dict[str, Any] = json.loads(engine.stdout.readline())
        return found

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        list(self.session.query(PREPARE))
        return [tuple(row) for row in self.session.query(statement)]


@contextmanager
def recording(pid: int, trace: Path) -> Iterator[subprocess.Popen[str]]:
    """Returns once everything is attached."""
    recorder = subprocess.Popen(
        [*PROFINFER, "record", *ENGINE_ONLY, "--pid", str(pid), "-o", str(trace), "--experts",
         "--faults", "--block-io", "--evict", "--ring-size", "16M"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert recorder.stderr
        first = recorder.stderr.readline()
        assert first.startswith("recording "), first + recorder.stderr.read()
        yield recorder
    finally:
        recorder.kill()
        recorder.wait()


@pytest.fixture(scope="module")
def limited(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    found = Limited(repo, tmp_path_factory.mktemp("limited"))
    yield found
    found.session.close()


def test_bytes_read_are_the_kernels_own_count(limited: Limited) -> None:
    [(total, model, kernel)] = limited.ask(
        "SELECT sum(bytes), sum(iif(m.file IS NULL, 0, bytes)),"
        " profinfer_kernel_count(r.upid, 'read_bytes')"
        " FROM profinfer_file_read AS r LEFT JOIN profinfer_model AS m USING (file)",
    )
    assert limited.ask("SELECT * FROM profinfer_loss") == []
    assert total == kernel == limited.kernel["read_bytes"]
    # It came back more than once, and nearly all that was read is the model.
    assert number(model) > 1.5 * limited.model.stat().st_size
    assert number(model) > 0.95 * number(total)


def test_major_faults_are_the_kernels_own_count(limited: Limited) -> None:
    [(recorded, in_models, kernel)] = limited.ask(
        "SELECT count(), count(model_tensor_id), profinfer_kernel_count(upid, 'major')"
        " FROM profinfer_fault WHERE kind = 'major'"
    )
    assert recorded == kernel == limited.kernel["major_faults"]
    assert number(in_models) > 0.8 * number(recorded) > 0


def test_faults_of_routed_operators_lie_in_the_experts_they_were_sent_to(limited: Limited) -> None:
    """Exactly: an address that was touched is in nobody else's weights."""
    touched = limited.ask(
        "SELECT DISTINCT f.graph_id, t.layer, f.expert FROM profinfer_fault AS f"
        " JOIN profinfer_model_tensor AS t USING (model_tensor_id)"
        " JOIN _operator_kind AS k USING (arg_set_id)"
        " WHERE k.op = 'MUL_MAT_ID' AND t.experts IS NOT NULL"
    )
    list(limited.session.query("INCLUDE PERFETTO MODULE profinfer.experts.activations"))
    sent = limited.ask(
        "SELECT DISTINCT r.graph_id, r.layer, a.expert FROM profinfer_expert_activation AS a"
        " JOIN profinfer_expert_reading AS r USING (reading_id) WHERE a.complete"
    )
    assert len(sent) >= PREDICT * SHAPE["layers"] * SHAPE["used"]
    assert set(touched) <= set(sent)
    # There is room for a part of the model only, so that they have to come from storage again.
    assert len(touched) > len(sent) / 2


def test_the_verdict_is_page_faults(limited: Limited) -> None:
    [verdict] = ready(limited.session, "explain").values()
    cause = next(str(row["sentence"]) for row in verdict if row["kind"] == "bound")
    [(faults,)] = limited.ask(
        "SELECT count() FROM profinfer_fault WHERE kind = 'major' AND graph_id IS NOT NULL"
    )
    assert cause.startswith(f"Page faults that had to read: {number(faults):,} major faults")
    assert not [row for row in verdict if "Somebody else" in str(row["sentence"])]


def test_model_io_attributes_reads_of_operators_to_experts(limited: Limited) -> None:
    [total], tensors, experts, *_ = ready(limited.session, "model_io").values()
    kinds, operators, _, unknown = ready(limited.session, "faults").values()
    assert unknown == []
    assert total["kernel_bytes"] == limited.kernel["read_bytes"]
    assert 0 < number(total["in_operators_bytes"]) <= number(total["of_models_bytes"])
    # Tensors have their size, whatever was read of them.
    assert {row["bytes"] for row in tensors if "exps" in str(row["tensor"])} == {
        SHAPE["experts"] * SHAPE["width"] * SHAPE["embd"] // 32 * 34
    }
    assert {row["layer"] for row in experts} <= set(range(SHAPE["layers"]))
    assert {number(row["expert"]) for row in experts} <= set(range(SHAPE["experts"]))
    assert experts
    by_op: dict[object, int] = {}
    for row in operators:
        by_op[row["op"]] = by_op.get(row["op"], 0) + number(row["major"])
    assert max(by_op, key=lambda op: by_op[op] if op else 0) == "MUL_MAT_ID"
    assert sum(number(row["recorded"]) for row in kinds) > 0


def test_what_an_operator_reads_is_mostly_what_it_multiplies(limited: Limited) -> None:
    # Nearly: what is read ahead may lie in the next tensor.
    found = limited.ask(
        "SELECT t.name, s.name, sum(r.bytes) FROM profinfer_model_read AS r"
        " JOIN profinfer_model_tensor AS t USING (model_tensor_id)"
        " JOIN _operator_kind AS k USING (arg_set_id)"
        " JOIN profinfer_edge AS e ON e.tensor_id = k.tensor_id AND e.slot = 0"
        " JOIN profinfer_tensor AS s ON s.tensor_id = e.src_tensor_id"
        " WHERE k.op = 'MUL_MAT_ID' GROUP BY 1, 2",
    )
    same = sum(number(size) for read, used, size in found if read == used)
    assert same > 0.6 * sum(number(size) for _, _, size in found)


@pytest.mark.parametrize("flash", ["on", "off"])
def test_kv_growth_covers_every_decoded_token(
    repo: Path, gemma: Path, tmp_path: Path, flash: str
) -> None:
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    # With one thread, which waits for nobody: machines that run tests have others to do.
    trace, predict, words = tmp_path / "t.pftrace", 200, "one two three four " * 30
    done = record(
        trace,
        ["--ring-size", "16M", "--operator-ops", "FLASH_ATTN_EXT", "MUL_MAT"],
        [sys.executable, repo / "tools/engine.py", gemma, "--threads", 1, "--flash", flash,
         "--prompt", words, "--predict", predict],
        timeout=250,
    )  # fmt: skip
    prompt = json.loads(done.stdout)["timings"]["prompt_n"]
    with open_trace(trace) as session:
        total, layers, _ = ready(session, "kv_growth").values()
    parts = ["FLASH_ATTN_EXT"] if flash == "on" else ["KQ", "KQV"]
    assert [row["part"] for row in total] == parts
    for row in total:
        # The first token comes from the prefill, the last one is never decoded. While it loads,
        # the server decodes two tokens of its own.
        assert number(row["tokens"]) - (predict - 1) in (0, 1, 2)
        assert row["context_to"] == prompt + predict - 1
        assert number(row["context_from"]) <= prompt + 1 < 256 < prompt + predict
        # llama.cpp rounds up to 256 cells.
        assert row["step_cells"] == 256
        assert row["incomplete"] == 0
        assert None not in row.values()
    assert [(row["part"], row["layer"]) for row in layers] == [
        (part, layer) for part in parts for layer in range(18)
    ]
    assert {row["cells_from"] for row in layers} == {256}
    assert {row["cells_to"] for row in layers} == {512}
