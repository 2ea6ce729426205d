"""Roots of other systems with an engine in them, and processes that hold it there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPO, require

LOADER = "/lib64/ld-linux-x86-64.so.2"
MUSL_LOADER = "/lib/ld-musl-x86_64.so.1"
OTHER_USER = 4321
"""Whom no system knows."""

_STUBS = {
    "libc.so.6": ("__libc_start_main", "dprintf", "pause"),
    "libdl.so.2": ("dlopen", "dlsym", "dlerror"),
}
# What a container is: mounts and processes of its own, and nothing below "/" but its root.
_CONTAINER = """
import ctypes, os, sys
BIND, DETACH, PIVOT_ROOT = 4096, 2, 155
libc = ctypes.CDLL(None, use_errno=True)
def do(call, *words):
    if call(*(w.encode() if isinstance(w, str) else w for w in words)):
        raise OSError(ctypes.get_errno(), f"{call.__name__} {words}")
root, upper, mounted, user, *command = sys.argv[1:]
if upper:
    layers = f"lowerdir={root},upperdir={upper}/upper,workdir={upper}/work"
    do(libc.mount, "overlay", mounted, "overlay", 0, layers)
else:
    do(libc.mount, root, mounted, None, BIND, None)
os.chdir(mounted)
for folder, kind in ("proc", "proc"), ("tmp", "tmpfs"):
    if os.path.isdir(folder):
        do(libc.mount, kind, folder, kind, 0, None)
do(libc.syscall, PIVOT_ROOT, ".", ".")
do(libc.umount2, ".", DETACH)
os.chdir("/")
os.setgroups([])
os.setgid(int(user))
os.setuid(int(user))
os.execv(command[0], command)
"""


@dataclass(frozen=True)
class Root:
    """A root with an engine."""

    folder: Path
    libraries: tuple[str, ...]
    """The engine's, as the root names them."""

    @property
    def holder(self) -> tuple[str, ...]:
        """The command that loads them and waits."""
        return "/holder", *self.libraries

    @property
    def files(self) -> list[Path]:
        """The libraries as this system names them."""
        return [self.folder / name.lstrip("/") for name in self.libraries]

    def state(self) -> dict[str, tuple[int, ...]]:
        """What the kernel knows of every file and folder: nobody changes anything without its
        having another time of change then."""
        found: dict[str, tuple[int, ...]] = {}
        for path in (self.folder, *self.folder.rglob("*")):
            s = path.lstat()
            found[str(path)] = (
                s.st_ino, s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_size, s.st_ctime_ns,
            )  # fmt: skip
        return found


def make_root(
    folder: Path, base: Path, engine: Sequence[Path], loader: str = LOADER, *, bare: bool = False
) -> Root:
    """A copy of the root `base` with an engine's libraries, and a program that holds them; with
    the folders that containers have, unless it is to be `bare`."""
    shutil.copytree(base, folder, symlinks=True)
    folder.chmod(0o755)
    for name in () if bare else ("dev", "proc", "tmp"):
        (folder / name).mkdir()
    (folder / "engine").mkdir()
    for path in engine:
        shutil.copy(path, folder / "engine")
    _build_holder(folder / "holder", loader, engine[0])
    return Root(folder, tuple(f"/engine/{path.name}" for path in engine))


def make_musl_root(folder: Path, *, bare: bool = True) -> Root:
    """Musl and an engine double made for it, in `folder`; else see `make_root`."""
    require(MUSL_LOADER, Path(MUSL_LOADER).exists())
    base = folder / "base"
    (base / "lib").mkdir(parents=True)
    shutil.copy(MUSL_LOADER, base / MUSL_LOADER.lstrip("/"))
    # musl-gcc leaves out the kernel's headers.
    flags = "-idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu"
    engine = build_double(folder / "built", "musl-gcc", flags)
    return make_root(folder / "root", base, [engine], MUSL_LOADER, bare=bare)


def build_double(folder: Path, compiler: str = "gcc", flags: str = "") -> Path:
    """The library of the engine double, with debug information; its programs lie beside it."""
    require(compiler, shutil.which(compiler))
    subprocess.run(
        ["sh", REPO / "tests/double/build.sh", folder], check=True, timeout=120,
        env={"PATH": "/usr/bin:/bin", "CC": compiler, "CFLAGS": f"-g {flags}"},
    )  # fmt: skip
    folder.chmod(0o755)
    return folder / "libknown.so"


def _build_holder(output: Path, loader: str, engine: Path) -> None:
    require("gcc", shutil.which("gcc"))
    parts = output.with_name("parts")
    parts.mkdir()
    for name, functions in _STUBS.items():
        (parts / "stub.c").write_text("".join(f"void {each}(void) {{}}\n" for each in functions))
        _gcc(
            "-w", "-shared", "-nostdlib", f"-Wl,-soname,{name}",
            "-o", parts / name, parts / "stub.c",
        )  # fmt: skip
    # An engine that is a module of Python's is loaded by a Python, which has these.
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", engine], capture_output=True, text=True, check=True
    )
    python = [word for word in listed.stdout.split() if word.lstrip("_").startswith("Py")]
    (parts / "python.c").write_text("".join(f"char {each}[256];\n" for each in python))
    _gcc(
        "-O2", "-rdynamic", "-nodefaultlibs", f"-Wl,--dynamic-linker={loader}",
        "-o", output, REPO / "tests/holder.c", parts / "python.c",
        *(parts / name for name in _STUBS),
    )  # fmt: skip
    shutil.rmtree(parts)


def _gcc(*words: str | Path) -> None:
    subprocess.run(["gcc", *words], check=True, timeout=60)


def in_chroot(root: Root, *command: object) -> list[str]:
    """Runs a command as root, in a root where no /proc is mounted."""
    return ["chroot", str(root.folder), *map(str, command)]


def in_container(
    root: Root, folder: Path, *command: object, user: int = OTHER_USER, layered: bool = False
) -> list[str]:
    """Runs a command as a user, in namespaces of its own, with the root below the new `folder`,
    where a layer above it takes what is written if it is to be `layered`. Root ends with its
    parent."""
    for name in ("upper", "work", "mounted"):
        (folder / name).mkdir(parents=True)
    apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    paths = (str(root.folder), str(folder) if layered else "", str(folder / "mounted"))
    script = (sys.executable, "-c", _CONTAINER, *paths, str(user))
    return [*apart, *script, *map(str, command)]


@dataclass(frozen=True)
class Holder:
    """A process that holds an engine."""

    pid: int
    """As this system counts."""
    said: dict[str, list[str]]
    """What the engine's own functions have said, by what it is."""


@contextmanager
def held(command: Sequence[str]) -> Iterator[Holder]:
    """Runs what holds an engine until the block is left."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        said: dict[str, list[str]] = {}
        for line in process.stdout:
            what, _, text = line.rstrip("\n").partition(" ")
            said.setdefault(what, []).append(text)
            if what == "ready":
                break
        assert "ready" in said, process.stderr.read()
        yield Holder(innermost(process.pid), said)
    finally:
        # Who has become another user does not end with its parent.
        os.kill(innermost(process.pid), signal.SIGKILL)
        process.kill()
        process.communicate()


def innermost(pid: int) -> int:
    """The process itself or, where it has made namespaces, the first in them; as this system
    counts."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid
