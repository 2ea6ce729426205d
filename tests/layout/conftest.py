"""A real engine, and small hostile ones compiled on the spot."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import require

_STUBS = """
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
void *ggml_init(void) { return 0; }
void *ggml_new_tensor_4d(void) { return 0; }
void *ggml_mul_mat(void) { return 0; }
const char *ggml_op_name(int i) { return i == 0 ? "NONE" : 0; }
const char *ggml_type_name(int i) { return i == 0 ? "f32" : 0; }
size_t ggml_type_size(int i) { return i == 0 ? 4 : 0; }
long ggml_blck_size(int i) { return i == 0; }
__attribute__((constructor)) static void start(void) {
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def engine() -> Path:
    """The one shared object of the xllamacpp wheel, found without importing it."""
    spec = importlib.util.find_spec("xllamacpp")
    origin = spec.origin if spec else None
    require("the xllamacpp wheel", origin)
    return next(Path(str(origin)).parent.glob("xllamacpp*.so"))


@pytest.fixture
def hostile(tmp_path: Path) -> Callable[[str], Path]:
    """Compile a library with ggml's names whose constructor runs the given C statements."""
    compiler = shutil.which("gcc") or ""
    require("a C compiler", compiler)

    def build(body: str) -> Path:
        folder = tmp_path / "hostile"
        folder.mkdir(exist_ok=True)
        # pytest's folders are closed to others, and a library's folder usually is not.
        folder.chmod(0o755)
        source, library = folder / "evil.c", folder / "libevil.so"
        source.write_text(f"{_STUBS}{body}\n}}\n")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-w", "-o", library, source], check=True, timeout=60
        )
        library.chmod(0o755)
        return library

    return build
