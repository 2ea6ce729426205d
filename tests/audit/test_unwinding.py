"""Whoever unwinds a stack, or throws through it, is not hindered by a stub, recording or not."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from tests.audit.conftest import Compile
from tests.audit.process import driver
from tests.audit.test_rings import Rings
from tests.conftest import require


def test_from_each_instruction_of_a_stub_the_caller_is_found(
    libraries: dict[str, Path], compiled: Compile
) -> None:
    require("root, which writes to its memory", os.geteuid() == 0)
    require("x86-64 processor", platform.machine() == "x86_64", hardware=True)
    require("g++", shutil.which("g++"))
    source = "unwinds.cpp"
    engine = compiled("libthrows.so", source, "-DENGINE", "-Wl,-z,lazy", compiler="g++")
    program = compiled(
        "unwinds", source, f"-L{engine.parent}", "-lthrows", "-Wl,-rpath,$ORIGIN", compiler="g++"
    )
    library = libraries["x86_64"]

    def step() -> int:
        """Of how many instructions."""
        unwound, lost, caught = map(int, found.ask("step").split())
        assert (lost, caught) == (0, 0)
        return unwound

    with driver(program, audit=[library]) as found:
        step()
        off = step()
        rings = Rings(found.pid, library)
        rings.switch()
        # The first time its thread asks for a ring.
        first, on = step(), step()
        assert 3 < off < on < first
        assert found.ask("throw") == "0 0 7"
        assert len(list(rings.records(0))) == 3
        rings.close()
