"""Schedules with times chosen by hand. In microseconds, so that results can be worked out."""

from __future__ import annotations

from collections.abc import Sequence

from tests.captures import CONTEXT, MAIN, WORKER, Capture, Operator, Run, Shape, T

VULKAN = 0x77
"""A backend."""
PROMPT = (0, 0, 3, 1, 1)
"""Three tokens of sequence 0 from position 0; logits of the last one."""

TENSORS = (
    T("inp", ne=(256, 3, 1, 1)),
    T("blk.0.attn_norm.weight", ne=(256, 1, 1, 1)),
    T("blk.0.attn_q.weight", type="q4_K", ne=(256, 512, 1, 1), buffer=0x6000),
    T("norm-0", "RMS_NORM", ("inp",), ne=(256, 3, 1, 1)),
    T("attn_norm-0", "MUL", ("norm-0", "blk.0.attn_norm.weight"), ne=(256, 3, 1, 1)),
    T("Qcur-0", "MUL_MAT", ("blk.0.attn_q.weight", "attn_norm-0"), ne=(512, 3, 1, 1)),
    T("Qcur-0 (view)", "VIEW", ("Qcur-0",), ne=(256, 3, 1, 1), view="Qcur-0"),
    T("ffn_silu-1", "UNARY", ("Qcur-0 (view)",), ne=(256, 3, 1, 1), param=1),
    T("result", "ADD", ("ffn_silu-1", "inp"), ne=(256, 3, 1, 1)),
)


def structure(capture: Capture, at: int, tensors: Sequence[T] = TENSORS) -> Shape:
    return capture.structure(1000 * at, tensors)


def graph(capture: Capture, shape: Shape | None, begin: int) -> None:
    """One run of the graph of TENSORS, from `begin` + 0 to `begin` + 700.

    Work (barrier wait), thread by thread:
                        main             worker
        attn_norm-0   10..40  (10)     20..35  (17)   fused with norm-0
        Qcur-0        50..200 (100)    52..280 (25)   waits inside from 60 and from 70
        ffn_silu-1   300..350 (50)    305..320 (90)
        result       400..700         410..700        no barrier at the end
    """
    main: list[Operator] = [
        ("norm-0+attn_norm-0", 10, 40), ("Qcur-0", 50, 60, 200), ("ffn_silu-1", 300, 350),
        ("result", 400),
    ]  # fmt: skip
    worker: list[Operator] = [
        ("norm-0+attn_norm-0", 20, 35), ("Qcur-0", 52, 70, 280), ("ffn_silu-1", 305, 320),
        ("result", 410),
    ]  # fmt: skip
    threads = {
        tid: [(name, *(1000 * (begin + t) for t in times)) for name, *times in operators]
        for tid, operators in ((MAIN, main), (WORKER, worker))
    }
    capture.graph(shape, 1000 * begin, 1000 * (begin + 700), threads)


def small(level: str = "barrier") -> Capture:
    """A prefill with one graph (200..900) and a decode with two (1200..1900, 2000..2700)."""
    capture = Capture(level)
    shape = structure(capture, 150)
    capture.ubatch(100_000, 1_000_000, [PROMPT])
    graph(capture, shape, 200)
    capture.ubatch(1_100_000, 2_800_000, [(0, 3, 1, 1, 1)])
    graph(capture, shape, 1200)
    graph(capture, shape, 2000)
    if level != "barrier":
        capture.records = [row for row in capture.records if row.kind != 3]
    return capture


def ubatches(
    capture: Capture, rows: Sequence[tuple[int, int, Sequence[Run]]], context: int = CONTEXT
) -> Capture:
    """Micro-batches without graphs: (begin, end, runs), in milliseconds."""
    for begin, end, runs in rows:
        capture.ubatch(1_000_000 * begin, 1_000_000 * end, runs, context=context)
    return capture


def split(steps: int = 3) -> Capture:
    """Each token: 300 us on the CPU, 500 + 100 for each step before on Vulkan0."""
    capture = Capture(backends={VULKAN: "Vulkan0"})
    capture.ubatch(0, 1_000_000, [(0, 0, 5, 1, 1)])
    nodes = [T("x"), T("a-0", "ADD", ("x",)), T("b-0", "ADD", ("a-0",))]
    on_cpu = capture.structure(1_001_000, nodes[:2])
    elsewhere = capture.structure(1_009_000, nodes, cgraph=0x9100, backend=VULKAN)
    at = 2_000_000
    for step in range(steps):
        capture.ubatch(at, at + 1_100_000, [(0, 5 + step, 1, 1, 1)])
        capture.graph(on_cpu, at + 1000, at + 301_000, {MAIN: [("a-0", at + 2000)]})
        dur = 500_000 + 100_000 * step
        capture.graph(elsewhere, at + 302_000, at + 302_000 + dur, {}, backend=VULKAN)
        at += 2_000_000
    return capture


def offloaded() -> Capture:
    """Three tokens on two backends: on the CPU 300 us, then 150 us of copying the result and 50 us
    of an input, RPC which is given its graph within 20 us, and is waited for 500 us by the copy
    back of 600 us, and the CPU again, for 100 us; one copy no call shows."""
    capture = Capture("graph", backends={1: "CPU", 2: "RPC"})
    cpu = [T("x"), T("blk.0.w.weight"), T("a-0", "MUL_MAT", ("blk.0.w.weight", "x"))]
    rpc = [
        T("RPC0#a-0#0"), T("RPC0#inp_pos#0"), T("RPC0#unseen#0", ne=(8, 1, 1, 1)),
        T("n-1", "RMS_NORM", ("RPC0#a-0#0",)), T("n-1 (view)", "VIEW", ("n-1",)),
        T("b-1", "ADD", ("n-1", "RPC0#inp_pos#0")), T("c-1", "MUL", ("b-1", "RPC0#unseen#0")),
    ]  # fmt: skip
    end = [T("CPU#c-1#0"), T("d-1", "ADD", ("CPU#c-1#0", "CPU#c-1#0")), T("e-1", "ADD", ("d-1",))]
    shapes = (
        capture.structure(10_000, cpu, backend=1),
        capture.structure(20_000, rpc, cgraph=0x9100, backend=2),
        capture.structure(30_000, end, cgraph=0x9200, backend=1),
    )
    address = {name: at for shape in shapes for name, at in shape.tensors.items()}

    def part(name: str, begin: int, end: int, **arguments: int) -> None:
        capture.call(name, begin, end, arguments, kind="void", is_part=True)

    capture.ubatch(40_000, 50_000, [(0, 0, 5, 1, 1)])
    for step in range(3):
        at = 2_000_000 * (step + 1)
        capture.ubatch(at, at + 1_500_000, [(0, 5 + step, 1, 1, 1)])
        part("set", at + 1_000, at + 2_000, tensor=address["x"], bytes=16)
        capture.graph(shapes[0], at + 10_000, at + 310_000, {}, backend=1)
        part("wait", at + 315_000, at + 316_000, backend=1)
        part("set", at + 320_000, at + 470_000, tensor=address["RPC0#a-0#0"], bytes=16)
        arguments = {"from": 7, "tensor": address["RPC0#inp_pos#0"]}
        part("copy", at + 480_000, at + 530_000, **arguments)
        capture.graph(shapes[1], at + 540_000, at + 560_000, {}, backend=2)
        part("wait", at + 600_000, at + 1_100_000, backend=2)
        part("get", at + 590_000, at + 1_190_000, tensor=address["c-1"], bytes=16)
        capture.graph(shapes[2], at + 1_200_000, at + 1_300_000, {}, backend=1)
        part("wait", at + 1_310_000, at + 1_311_000, backend=1)
        part("get", at + 1_600_000, at + 1_601_000, tensor=address["e-1"], bytes=16)
    return capture
