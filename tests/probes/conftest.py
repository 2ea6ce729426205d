"""An engine double for each machine, a real engine for arm64, and the command that plans them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profinfer.__main__ import main
from profinfer.describing.roots import is_native, sysroot_variable
from tests.conftest import require

Plan = dict[str, Any]
MakePlan = Callable[..., Plan]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(sysroot_variable("aarch64"), raising=False)


@pytest.fixture(scope="session")
def sysroot(repo: Path) -> Path:
    """The libraries of an arm64 system, and the emulator for it."""
    require("another processor than arm64", not is_native("aarch64"), hardware=True)
    require("qemu-aarch64 (qemu-user)", shutil.which("qemu-aarch64"))
    named = os.environ.get(sysroot_variable("aarch64"))
    root = Path(named) if named else repo / "build/roots/aarch64-bookworm"
    require(f"arm64 libraries in {root}", root.is_dir())
    return root


def _build(repo: Path, folder: Path, compiler: str) -> Path:
    require(compiler, shutil.which(compiler))
    subprocess.run(
        ["sh", repo / "tests/double/build.sh", folder], check=True, timeout=120,
        env={**os.environ, "CC": compiler, "CFLAGS": "-g"},
    )  # fmt: skip
    # pytest's folders are closed to others, and a library's folder usually is not.
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def native(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine double for this machine, in a folder."""
    return _build(repo, tmp_path_factory.mktemp("native"), "gcc")


@pytest.fixture(scope="session")
def arm64(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine double for arm64, in a folder."""
    return _build(repo, tmp_path_factory.mktemp("arm64"), "aarch64-linux-gnu-gcc")


@pytest.fixture(scope="session")
def xllamacpp(repo: Path) -> Path:
    """A real engine for arm64: the one shared object of a wheel."""
    found = sorted(repo.glob("build/engines/aarch64/xllamacpp-*/xllamacpp/xllamacpp*.so"))
    require("the xllamacpp wheel for arm64", found)
    return found[-1]


@pytest.fixture
def make_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> MakePlan:
    """make_plan(*arguments): runs `profinfer plan` to its good end; what it has written."""

    def make(*arguments: object) -> Plan:
        path = tmp_path / "made.json"
        code = main(["plan", "-o", str(path), "--force", *map(str, arguments)])
        assert code == 0, capsys.readouterr().err
        plan: Plan = json.loads(path.read_bytes())
        return plan

    return make
