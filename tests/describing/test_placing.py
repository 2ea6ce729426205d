"""Where an engine's files are found by whom they are loaded by, and what becomes of the rest."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from profinfer import built
from profinfer.describing.describe import Layout, describe
from profinfer.describing.roots import Root, find_root
from profinfer.engine.aside import aside
from profinfer.errors import ProbeError
from tests.conftest import require
from tests.hostile import Place, make_root

OWNER = 23456
"""Whom no system knows."""
_NEWUSER = 0x10000000


@pytest.fixture(scope="module")
def double(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine double, with a neighbour that it needs."""
    require("gcc", shutil.which("gcc"))
    folder = tmp_path_factory.mktemp("double")
    sources = repo / "tests/double"
    for words in (
        ["-DOTHER_LIB", "-Wl,-soname,libneeded.so", "-o", "libneeded.so", sources / "other.c"],
        ["-o", "libknown.so", sources / "ggml.c", "-Wl,--no-as-needed", "libneeded.so"],
    ):
        command = ["gcc", "-O2", "-shared", "-fPIC", "-pthread", *map(str, words)]
        subprocess.run(command, check=True, cwd=folder, timeout=60)
    return folder


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """Another root."""
    require("root (to enter other roots)", os.geteuid() == 0)
    return make_root(tmp_path / "root")


@pytest.fixture
def lay(double: Path) -> Callable[[Path], Path]:
    """lay(folder): the double in that folder."""

    def lay(folder: Path) -> Path:
        shutil.copytree(double, folder)
        folder.chmod(0o755)
        return folder / "libknown.so"

    return lay


def _is_double(layout: Layout) -> bool:
    return layout.version == "0.0.7-known" and layout.ubatch is not None


def _described(library: Path, uid: int = OWNER, root: Root | None = None) -> Layout:
    layout = describe([library], uid=uid, gid=uid, root=root)
    assert _is_double(layout)
    return layout


def _state(folder: Path) -> dict[str, tuple[int, ...]]:
    """What the kernel knows of every file and folder: whoever changes one changes that."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (folder, *folder.rglob("*")):
        s = path.lstat()
        found[str(path)] = (s.st_ino, s.st_mode, s.st_uid, s.st_nlink, s.st_size, s.st_ctime_ns)
    return found


def _mounts(folder: Path) -> list[str]:
    """What is mounted in a folder, or by us."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(folder) in line or " profinfer " in line]


Lay = Callable[[Path], Path]


@pytest.mark.usefixtures("as_root")
def test_below_closed_folders(lay: Lay, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    _described(lay(closed / "lib"))


@pytest.mark.usefixtures("as_root")
def test_a_folder_whose_name_is_no_part_of_a_list(lay: Lay, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder is tmp_path or folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o755)
    _described(lay(tmp_path / "a:b;c$LIB"))


@pytest.mark.usefixtures("as_root")
def test_what_root_alone_can_read(lay: Lay, tmp_path: Path) -> None:
    """It is copied for nobody, and so are its neighbours, by their names and links to them."""
    library = lay(tmp_path / "lib")
    needed = library.with_name("libneeded.so")
    needed.rename(library.with_name("libneeded.so.1"))
    needed.symlink_to("libneeded.so.1")
    library.with_name("libsecret.so").symlink_to("/etc/shadow")
    for path in library.parent.iterdir():
        if not path.is_symlink():
            path.chmod(0o700)
    library.parent.chmod(0o700)
    _described(library, uid=0)
    with pytest.raises(ProbeError, match=r"libknown\.so: Permission denied"):
        _described(library)


@pytest.mark.usefixtures("as_root")
def test_a_neighbour_may_not_lead_elsewhere(place: Place) -> None:
    """Root's copies for nobody hold what lies there, and no secret that a link there names."""
    library = place.build(
        r"""
        int link = open(beside("liblink.so"), O_RDONLY), own = open(beside("libown.so"), O_RDONLY);
        SAY("link %d own %d pipe %d\n", link >= 0, own >= 0, !access(beside("libpipe.so"), F_OK));
        _exit(7);
        """
    )
    secret = (place.folder if place.top == Path("/") else place.top) / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    library.with_name("liblink.so").symlink_to(f"/{secret.relative_to(place.top)}")
    library.with_name("libown.so").write_text("no secret")
    os.mkfifo(library.with_name("libpipe.so"))
    library.chmod(0o700)
    assert "link 0 own 1 pipe 0" in place.fails(library, uid=0)


def test_in_another_root(lay: Lay, top: Path) -> None:
    library = lay(top / "engine")
    before = _state(top)
    mounts = _mounts(top)
    for uid in (0, OWNER):
        _described(library, uid, find_root("x86-64", top))
    library.parent.chmod(0o700)
    os.chown(library.parent, OWNER, OWNER)
    _described(library, root=find_root("x86-64", top))
    library.parent.chmod(0o755)
    os.chown(library.parent, 0, 0)
    after = _state(top)
    del before[str(library.parent)], after[str(library.parent)]
    assert after == before
    assert _mounts(top) == mounts


def test_whoever_may_not_read_it_gets_none_in_another_root(lay: Lay, top: Path) -> None:
    library = lay(top / "engine")
    library.chmod(0o600)
    with pytest.raises(ProbeError, match=r"libknown\.so: Permission denied"):
        _described(library, root=find_root("x86-64", top))
    _described(library, uid=0, root=find_root("x86-64", top))


@pytest.mark.parametrize("there", ["nothing", "another", "a pipe", "a link that leads out"])
def test_a_path_that_leads_elsewhere(there: str, lay: Lay, top: Path, tmp_path: Path) -> None:
    """The file that was looked at is loaded, and no other that has its name by now."""
    library = lay(tmp_path / "lib")
    place = top / library.relative_to("/")
    place.parent.mkdir(parents=True)
    shutil.copy(library.with_name("libneeded.so"), place.parent)
    if there == "another":
        place.write_text("another")
    elif there == "a pipe":
        os.mkfifo(place)
    elif there == "a link that leads out":
        place.symlink_to("/proc/self/root/etc/passwd")
    _described(library, root=find_root("x86-64", top))


def test_the_loader_is_a_stranger_too(lay: Lay, top: Path) -> None:
    """Whatever lies in its place is run as anything of that root: confined."""
    library = lay(top / "engine")
    source, loader = top / "engine/loader.c", top / "engine/loader"
    source.write_text(
        r"""
        #include <dirent.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        int main(void) {
          int open_ones = 0;
          for (int fd = 0; fd < 1024; fd++) open_ones += dup(fd) >= 0 && fd < 64;
          fprintf(stderr, "%d %d chroot %d\n", getuid(), open_ones > 3, chroot("/"));
          return 9;
        }
        """
    )
    subprocess.run(["gcc", "-static", "-w", "-o", loader, source], check=True, timeout=60)
    root = find_root("x86-64", top)
    root = Root(root.machine, "/engine/loader", root.folder, prefixes=root.prefixes)
    with pytest.raises(ProbeError, match=rf"status 9 \({OWNER} 1 chroot -1\)"):
        _described(library, root=root)
    loader.chmod(0o600)
    with pytest.raises(ProbeError, match="cannot start /engine/loader: Permission denied"):
        _described(library, root=root)


def test_a_sysroot_that_others_cannot_reach_serves(emulated: Place, tmp_path: Path) -> None:
    """The folders above it may be closed to whom the library is run by."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert emulated.root
    assert emulated.root.sysroot
    (closed / "root").symlink_to(emulated.root.sysroot)
    root = find_root("aarch64", closed / "root")
    place = Place(emulated.compiler, emulated.folder, root)
    assert "ggml_init refused a context" in place.fails("")


def _become_owner() -> None:
    os.setgroups([])
    os.setresgid(OWNER, OWNER, OWNER)
    os.setresuid(OWNER, OWNER, OWNER)


def _without_namespaces() -> None:
    """As one who may make none: in a user namespace where the last one has been made."""
    ours, theirs = os.pipe(), os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        os.read(ours[0], 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{parent}/{name}").write_text("0 0 65536")
        os.write(theirs[1], b"x")
        os._exit(0)
    assert ctypes.CDLL(None).unshare(_NEWUSER) == 0
    os.write(ours[1], b"x")
    os.read(theirs[0], 1)
    os.setresuid(0, 0, 0)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    _become_owner()


def build_evil(folder: Path) -> Place:
    """A library that says what it may do."""
    place = Place("gcc", folder / "evil")
    place.folder.mkdir()
    place.folder.chmod(0o755)
    place.build(
        r"""
        char line[256], caps[32] = "?";
        FILE *f = fopen("/proc/self/status", "r");
        while (f && fgets(line, sizeof line, f)) sscanf(line, "CapEff: %31s", caps);
        int refused = TRY(chroot("/")) && TRY(mount("x", "/", "tmpfs", 0, "")) &&
                      TRY(syscall(SYS_unshare, CLONE_NEWUSER));
        SAY("caps %s refused %d local %d\n", caps, refused, socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
        _exit(7);
        """
    )
    return place


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("become", [_become_owner, _without_namespaces])
def test_without_root(
    become: Callable[[], None], lay: Lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is not root confines by a user namespace or, where there may be none, as far as that
    goes, and says so."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder is tmp_path or folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent")
    library = lay(tmp_path / "lib")
    # What has been built may lie where others cannot go.
    parts = tmp_path / "parts"
    parts.mkdir()
    paths = []
    for path in built.describer(os.uname().machine):
        paths.append(Path(shutil.copy(path, parts)))
    monkeypatch.setattr("profinfer.describing.sandbox.describer", lambda _machine: tuple(paths))

    evil = build_evil(tmp_path)

    def work() -> bytes:
        become()
        layout = describe([library], uid=OWNER, gid=OWNER)
        said = evil.fails(evil.folder / "libevil.so", uid=OWNER)
        answer = {"double": _is_double(layout), "notes": layout.notes, "said": said}
        return json.dumps(answer).encode()

    found = json.loads(aside(work))
    assert found["double"]
    assert "caps 0000000000000000 refused 1 local 0" in found["said"]
    assert (become is _without_namespaces) == (
        "the library was examined without a network namespace of its own" in found["notes"]
    )
