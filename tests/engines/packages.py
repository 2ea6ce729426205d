"""Engines that come as packages, as tools/setup.sh --test fetches them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import REPO, require
from tests.engines.engine import PREDICT, PROMPT, Engine, Own, functions, last_line

_HERE = Path(__file__).parent
_FETCHED = REPO / "build/engines/x86_64"
GLIBC = " ".join(platform.libc_ver())


def xllamacpp(model: Path) -> Engine:
    """llama.cpp's server in Python."""
    spec = importlib.util.find_spec("xllamacpp")
    require("the xllamacpp wheel", spec and spec.origin)
    assert spec
    assert spec.origin
    [library] = Path(spec.origin).parent.glob("xllamacpp*.so")
    command = (sys.executable, REPO / "tools/engine.py", model, "--predict", PREDICT + 1,
               "--context", 512, "--prompt", "x" * PROMPT)  # fmt: skip

    def read(stdout: str) -> Own:
        said = last_line(stdout)["timings"]
        steps = said["predicted_n"] - 1  # the prefill gave the first
        return Own(said["prompt_n"], steps, said["predicted_ms"], with_gaps=True)

    return Engine(
        "xllamacpp", importlib.metadata.version("xllamacpp"), "PyPI wheel, one library, OpenMP",
        GLIBC, tuple(map(str, command)), functions([library]), read,
    )  # fmt: skip


def node_llama_cpp(model: Path) -> Engine:
    """node-llama-cpp: it tries its library in a process of its own first."""
    folder = _node_packages()
    package = folder / "node_modules/@node-llama-cpp/linux-x64"
    libraries = sorted(package.glob("bins/*/libggml-*.so"))
    return Engine(
        "node-llama-cpp", _version(folder / "node_modules/node-llama-cpp"),
        "npm binary, a library per kind of CPU", GLIBC,
        _on_node("node_llama_cpp.mjs", folder, model), functions(libraries), _by_node(False),
    )  # fmt: skip


def llama_node(model: Path) -> Engine:
    """@fugood/llama.node: one stripped addon."""
    folder = _node_packages()
    package = folder / "node_modules/@fugood/node-llama-linux-x64"
    return Engine(
        "@fugood/llama.node", _version(folder / "node_modules/@fugood/llama.node"),
        "npm binary, one stripped library", GLIBC,
        _on_node("llama_node.mjs", folder, model), functions([package / "index.node"]),
        _by_node(True),
    )  # fmt: skip


def pywhispercpp(_model: Path) -> Engine:
    """whisper.cpp in Python, with the model and the speech of its sources."""
    engines = sorted(_FETCHED.glob("pywhispercpp-*"))
    models = sorted(REPO.glob("build/models/pywhispercpp-*"))
    require("pywhispercpp and its model", engines and models)
    require("Python 3.11, which the wheel is for", sys.version_info[:2] == (3, 11))
    model, speech = models[-1] / "for-tests-ggml-tiny.bin", models[-1] / "jfk.wav"
    command = ("sh", "-c", 'exec "$@" 2>&1', "sh", sys.executable,
               REPO / "tests/recording/hear.py", engines[-1], model, speech)  # fmt: skip

    def read(stdout: str) -> Own:
        found = re.findall(r"(\w+) time = +([\d.]+) ms / +(\d+) runs", stdout)
        said = {what: (float(taken), int(count)) for what, taken, count in found}
        # Prompts are short here; it says 1 for none.
        return Own(said["batchd"][1], said["decode"][1], said["decode"][0], with_gaps=False)

    return Engine(
        "pywhispercpp", engines[-1].name.rpartition("-")[2], "PyPI wheel, libraries", GLIBC,
        tuple(map(str, command)),
        functions(sorted(engines[-1].glob("pywhispercpp.libs/libggml-cpu-*"))), read,
    )  # fmt: skip


PACKAGES = (xllamacpp, node_llama_cpp, llama_node, pywhispercpp)


def _node_packages() -> Path:
    require("x86-64 processor", platform.machine() == "x86_64", hardware=True)
    lock = (_HERE / "node/package-lock.json").read_bytes()
    folder = _FETCHED / f"node-{hashlib.sha256(lock).hexdigest()[:12]}"
    require(f"the packages of {folder.relative_to(REPO)}", folder.is_dir())
    return folder


def _on_node(script: str, folder: Path, model: Path) -> tuple[str, ...]:
    words = (node(), _HERE / "node" / script, folder, model, PROMPT, PREDICT + 1)
    return tuple(map(str, words))


def node() -> str:
    """Node.js, as new as the packages ask for: the system's, or the one that playwright has."""
    found = shutil.which("node")
    if found and int(subprocess.check_output([found, "--version"]).split(b".")[0][1:]) >= 20:
        return found
    spec = importlib.util.find_spec("playwright")
    require("Node.js 20", spec and spec.origin)
    assert spec
    assert spec.origin
    return str(Path(spec.origin).parent / "driver/node")


def _by_node(with_gaps: bool) -> Callable[[str], Own]:
    def read(stdout: str) -> Own:
        return Own(**last_line(stdout), with_gaps=with_gaps)

    return read


def _version(package: Path) -> str:
    return str(last_line((package / "package.json").read_text().replace("\n", " "))["version"])
