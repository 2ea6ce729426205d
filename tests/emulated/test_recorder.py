"""The recorder in C records the known schedule under every kernel; its captures convert here."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from profinfer.capture import FrameKind
from tests.emulated.board import Board, make_board
from tests.emulated.machine import KERNELS, processor
from tests.kernel.helpers import assert_matches, ending
from tests.matrix import Matrix
from tests.recorder.recording import convert, frame_json

SCHEDULE = "--threads 2 --layers 3 --prompt 13 --decode 20 --sequences 2 --backend2"
WITHOUT_RINGS = ("arm64-5.10", "x86-5.10")
WITHOUT_LINKS = (*WITHOUT_RINGS, "arm64-6.1", "x86-6.1")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Board]:
    """Makes the board for a kernel's machine, once per machine."""
    made = cache(lambda machine: make_board(machine, tmp_path_factory.mktemp(machine)))
    return lambda kernel: made(processor(kernel).machine)


@pytest.mark.matrix
@pytest.mark.parametrize("transport", ["ring", "perf"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_known_schedule_is_recorded_there_and_converted_here(
    kernel: str, transport: str, board: Callable[[str], Board], matrix: Matrix, tmp_path: Path
) -> None:
    machine, attach = (
        processor(kernel).machine,
        "perf_event" if kernel in WITHOUT_LINKS else "uprobe_multi",
    )
    what = "schedule recorded in C"
    matrix(what, kernel=kernel, machine=machine, loader="C", transport=transport, attach=attach)
    result = board(kernel).run(kernel, f"--transport {transport}", SCHEDULE)
    if transport == "ring" and kernel in WITHOUT_RINGS:
        matrix(
            "refused as it should", kernel=kernel, machine=machine, loader="C", transport=transport
        )
        assert result.status == 4
        assert "lacks the atomic instructions or the ring buffer" in result.output
        assert "hint: --transport perf needs less" in result.output
        return
    result.check()
    capture = tmp_path / "t.raw"
    capture.write_bytes(result.files["t.raw"])
    start = frame_json(capture, FrameKind.START)
    assert (start["transport"], start["attach"]) == (transport, attach)
    assert start["uname"]["machine"] == machine
    assert start["boot_clock"] is True
    trace = convert(capture)
    assert_matches(trace, json.loads(result.files["truth"]), "barrier")
    end = ending(trace)
    assert (end["reason"], end["lost"], end["unattributed"]) == ("the target ended", "0", "0")


@pytest.mark.matrix
@pytest.mark.parametrize("kernel", ["arm64-5.10", "arm64-6.12"])
def test_the_transport_is_chosen_by_what_the_kernel_can(
    kernel: str, board: Callable[[str], Board], matrix: Matrix, tmp_path: Path
) -> None:
    transport = "perf" if kernel in WITHOUT_RINGS else "ring"
    machine = processor(kernel).machine
    matrix("transport chosen", kernel=kernel, machine=machine, loader="C", transport=transport)
    result = board(kernel).run(kernel, "--level token", SCHEDULE).check()
    capture = tmp_path / "t.raw"
    capture.write_bytes(result.files["t.raw"])
    assert frame_json(capture, FrameKind.START)["transport"] == transport
    assert_matches(convert(capture), json.loads(result.files["truth"]), "token")
