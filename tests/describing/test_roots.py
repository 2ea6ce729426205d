"""Engines of other systems, each described in its own root, as files and in a process.

An engine that this system can load, too, must have the same layout there. One that it cannot is
judged by what its own functions say, and by DWARF.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from profinfer.__main__ import main
from profinfer.describing.describe import describe, describe_process
from profinfer.describing.layout import Layout
from profinfer.engine import target
from tests.conftest import REPO, require
from tests.dwarf import members
from tests.roots import (
    Holder,
    Root,
    build_double,
    held,
    in_chroot,
    in_container,
    make_musl_root,
    make_root,
)

pytestmark = pytest.mark.usefixtures("_this_machine")


@pytest.fixture(scope="module", name="_this_machine")
def this_machine_fixture() -> None:
    require("x86-64 processor", os.uname().machine == "x86_64", hardware=True)
    require("root (to enter other roots)", os.geteuid() == 0)


def _base(release: str) -> Path:
    base = REPO / f"build/roots/x86_64-{release}"
    require(str(base.relative_to(REPO)), base.is_dir())
    return base


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine double of this system."""
    return build_double(tmp_path_factory.mktemp("double"))


@pytest.fixture(scope="module")
def trixie(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """Debian 13 with a wheel's libraries that need its glibc."""
    found = sorted(REPO.glob("build/engines/x86_64/llama-cpp-py-sync-*/llama_cpp_py_sync/lib*.so*"))
    require("the llama-cpp-py-sync wheel", found)
    # The wheel has libllama twice.
    engine = [path for path in found if path.name not in ("libllama.so", "libmtmd.so")]
    engine.sort(key=lambda path: path.name != "libllama.so.0")
    return make_root(tmp_path_factory.mktemp("roots") / "trixie", _base("trixie"), engine)


@pytest.fixture(scope="module")
def bullseye(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """Debian 11, whose dlopen is in libdl, with the engine that this system has, too."""
    folder = tmp_path_factory.mktemp("roots") / "bullseye"
    return make_root(folder, _base("bullseye"), [engine], bare=True)


@pytest.fixture(scope="module")
def with_double(double: Path, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """Debian 13 with the engine double."""
    return make_root(tmp_path_factory.mktemp("roots") / "double", _base("trixie"), [double])


@pytest.fixture(scope="module")
def musl(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """Nothing but musl and an engine double made for it."""
    return make_musl_root(tmp_path_factory.mktemp("musl"))


ROOTS = ("trixie", "bullseye", "with_double", "musl")


@pytest.fixture(params=ROOTS)
def root(request: pytest.FixtureRequest) -> Root:
    """Each of them."""
    found: Root = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["chroot", "container", "layers"])
def command(request: pytest.FixtureRequest, root: Root, tmp_path: Path) -> Iterator[list[str]]:
    """What holds the engine in its root, in each way; then nothing has changed there."""
    before = root.state()
    if request.param == "chroot":
        yield in_chroot(root, *root.holder)
    else:
        layered = request.param == "layers"
        yield in_container(root, tmp_path / "container", *root.holder, layered=layered)
        assert not any((tmp_path / "container/upper").iterdir())
    assert root.state() == before


@pytest.fixture(scope="module")
def judge(
    engine: Path, double: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Root, Layout], None]:
    """judge(root, layout): fails unless that is the layout of the root's engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        here = {path.name: describe([path], uid=0, gid=0) for path in (engine, double)}

    def judge(root: Root, layout: Layout) -> None:
        path = root.files[0]
        if path.name in here:
            assert layout == here[path.name]
            return
        # The two pinned engines are of different versions, and their structs are the same.
        assert (layout.version or "").startswith("0.27.0")
        assert layout.tensor == here[engine.name].tensor
        assert layout.cgraph == here[engine.name].cgraph
        assert layout.backend == here[engine.name].backend
        assert layout.ubatch == here[engine.name].ubatch
        assert len(set(layout.ops)) == len(layout.ops) > 60
        assert layout.notes == ()

    return judge


def test_files(root: Root, judge: Callable[[Root, Layout], None], tmp_path: Path) -> None:
    before = root.state()
    layout = _planned(root, tmp_path)
    assert root.state() == before
    judge(root, layout)


def test_the_double_agrees_with_dwarf(musl: Root, tmp_path: Path) -> None:
    library = musl.files[0]
    known, found = members(library, "ggml_tensor"), _planned(musl, tmp_path).tensor
    for field in ("type", "ne", "nb", "op", "op_params", "src", "view_src", "data", "name"):
        assert getattr(found, field) == known[field], field


def test_a_process(root: Root, command: list[str], judge: Callable[[Root, Layout], None]) -> None:
    with held(command) as holder:
        layout = _described(holder.pid)
    judge(root, layout)
    _check(layout, holder)


def test_a_mount_that_only_the_process_has(
    with_double: Root, judge: Callable[[Root, Layout], None], tmp_path: Path
) -> None:
    """The root is this system's, and yet the engine is not where its path leads here."""
    script = """
    mount -t tmpfs tmpfs "$1"
    cp "$2" "$3" "$1"
    exec "$1/holder" "$1/libknown.so"
    """
    words = (tmp_path, with_double.folder / "holder", *with_double.files)
    with held(["unshare", "--mount", "sh", "-ec", script, "sh", *map(str, words)]) as holder:
        assert not (tmp_path / "holder").exists()
        judge(with_double, _described(holder.pid))


def _planned(root: Root, folder: Path) -> Layout:
    """As the files are described by `profinfer plan`."""
    output = folder / "plan.json"
    words = ["--target", *map(str, root.files), "--sysroot", str(root.folder), "-o", str(output)]
    assert main(["plan", *words]) == 0
    return Layout.from_dict(json.loads(output.read_bytes())["start"]["layout"])


def _described(pid: int) -> Layout:
    return describe_process(pid, target.engine_objects(pid))


def _check(layout: Layout, holder: Holder) -> None:
    """The engine itself says so."""
    # The commit may follow.
    assert (layout.version or "").split()[:1] == holder.said["version"]
    assert list(layout.ops[: len(holder.said["op"])]) == holder.said["op"]
    types = [f"{each.name} {each.type_size}" for each in layout.types[:3] if each]
    assert types == holder.said["type"]
    assert [str(layout.tensor.name)] == holder.said["name"]
