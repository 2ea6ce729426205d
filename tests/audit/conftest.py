"""The audit library, and the programs that run under it; built once."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import require

SOURCES = Path(__file__).parent
Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def libraries(repo: Path) -> dict[str, Path]:
    """The audit libraries by machine."""
    require("gcc", shutil.which("gcc"))
    subprocess.run([repo / "tools/build_audit.sh"], check=True, timeout=120)
    paths = {m: repo / "build" / m / "libprofinfer-audit.so" for m in ("x86_64", "aarch64")}
    return {machine: path for machine, path in paths.items() if path.exists()}


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compiles one of the sources here, or a text, to an output of that name."""
    folder = tmp_path_factory.mktemp("audit")

    def build(output: str, source: str, *flags: str, compiler: str = "gcc") -> Path:
        place, path = folder / output, SOURCES / source
        if not source.endswith((".c", ".cpp")):
            path = folder / f"{output}.c"
            path.write_text(source)
        standard = "gnu++11" if source.endswith(".cpp") else "gnu11"
        kind = ["-shared", "-fPIC"] if output.endswith(".so") else []
        subprocess.run(
            [compiler, f"-std={standard}", "-O2", "-Wall", "-Wextra", f"-I{SOURCES}", *kind,
             "-o", place, path, *flags, "-pthread", "-ldl"],
            check=True, timeout=60,
        )  # fmt: skip
        return place

    return build


@pytest.fixture(scope="session")
def engine(compiled: Compile) -> Path:
    """An engine whose calls are bound when they are made first."""
    return compiled("libengine.so", "engine.c", "-Wl,-z,lazy")


@pytest.fixture(scope="session")
def opener(compiled: Compile, libraries: dict[str, Path]) -> Path:
    """A driver that loads engines only when it is told to. Others look at it: as root."""
    require("root, which probing needs", os.geteuid() == 0)
    require("an audit library for this machine", platform.machine() in libraries)
    return compiled("opener", "driver.c")


@pytest.fixture(scope="session")
def linked(compiled: Compile, engine: Path, opener: Path) -> Path:
    """A driver that is linked with the lazily bound engine, and calls it itself."""
    del opener
    return compiled(
        "linked", "driver.c", "-DLINKED", "-Wl,-z,lazy", f"-L{engine.parent}", "-lengine",
        "-Wl,-rpath,$ORIGIN",
    )  # fmt: skip
