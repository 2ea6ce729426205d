"""Libraries that pretend to be ggml and do something else when they are loaded, and the places
where they are: this system, another root, another processor."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from profinfer.describing.describe import describe
from profinfer.describing.roots import Root
from profinfer.errors import ProbeError
from tests.conftest import require

_STUBS = """
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
void *ggml_init(void) { return 0; }
void *ggml_new_tensor_4d(void) { return 0; }
void *ggml_mul_mat(void) { return 0; }
const char *ggml_op_name(int i) { return i == 0 ? "NONE" : 0; }
const char *ggml_type_name(int i) { return i == 0 ? "f32" : 0; }
size_t ggml_type_size(int i) { return i == 0 ? 4 : 0; }
long ggml_blck_size(int i) { return i == 0; }
// The path of a file in the folder from which this has been loaded.
static char *beside(const char *name) {
  static char paths[8][512], *path;
  static int next;
  Dl_info info;
  path = paths[next++ % 8];
  dladdr((void *)beside, &info);
  strcpy(path, info.dli_fname);
  return strcpy(strrchr(path, '/') + 1, name), path;
}
// What it says in the last line of its life is heard.
#define SAY(...) dprintf(2, __VA_ARGS__)
#define TRY(call) ((call) < 0 ? errno : 0)
__attribute__((constructor)) static void start(void) {
"""

# Says who it is and what it may do.
_REPORT = r"""
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    a.sin_addr.s_addr = htonl(0x7f000001);
    int connected = connect(s, (void *)&a, sizeof a) ? errno : 0;
    char line[256], caps[32] = "?";
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) sscanf(line, "CapEff: %31s", caps);
    struct rlimit core; getrlimit(RLIMIT_CORE, &core);
    int root_again = setuid(0) ? errno : 0;
    SAY("I am %d/%d groups %d caps %s connect %d setuid %d nnp %d core %ld ld %s end\n",
        getuid(), getgid(), getgroups(0, 0), caps, connected, root_again,
        prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), (long)core.rlim_cur,
        getenv("LD_PRELOAD") || getenv("PROFINFER_SECRET") ? "leaked" : "clean");
    """

_LOADER = Path("/lib64/ld-linux-x86-64.so.2")
_EMULATED = 10
"""Times as long as natively."""


@dataclass(frozen=True)
class Place:
    """Where a library is loaded."""

    compiler: str
    folder: Path
    """Of the library, as we name it."""
    root: Root | None = None
    top: Path = Path("/")
    """The root, as we name it."""

    @property
    def is_emulated(self) -> bool:
        return self.root is not None and self.root.emulator is not None

    def build(self, body: str) -> Path:
        """A library with ggml's names whose constructor runs the given C statements."""
        require(self.compiler, shutil.which(self.compiler))
        source, library = self.folder / "evil.c", self.folder / "libevil.so"
        source.write_text(f"{_STUBS}{body}\n}}\n")
        subprocess.run(
            [self.compiler, "-shared", "-fPIC", "-w", "-o", library, source], check=True, timeout=60
        )
        library.chmod(0o755)
        return library

    def fails(self, body: str | Path, *, uid: int | None = None, timeout: float = 10) -> str:
        """What is said of a library, or one made of statements, that is no engine."""
        library = self.build(body) if isinstance(body, str) else body
        who = os.geteuid() if uid is None else uid
        if self.is_emulated:
            timeout /= _EMULATED
        with pytest.raises(ProbeError) as caught:
            describe([library], uid=who, gid=who, timeout=timeout, root=self.root)
        assert caught.value.message.startswith("libevil.so could not describe itself: ")
        assert "\033" not in caught.value.message
        return caught.value.message


def make_root(folder: Path) -> Path:
    """The root of a system that has this one's dynamic loader and libc, and nothing else."""
    folder.mkdir()
    folder.chmod(0o755)
    require(str(_LOADER), _LOADER.exists())
    files = [_LOADER]
    for name in ("libc.so.6", "libdl.so.2"):
        words = ["gcc", f"-print-file-name={name}"]
        found = subprocess.run(words, capture_output=True, text=True, check=True)
        files.append(Path(found.stdout.strip()).resolve())
    for path in files:
        copy = folder / path.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return folder


def report(port: int, end: str = "_exit(7);") -> str:
    """Statements that say who runs them and whether they reach a port of this machine."""
    return f"{_REPORT.replace('PORT', str(port))}{end}"


def alive(library: Path) -> list[str]:
    """Processes that have the library mapped."""
    mark = f" {library.stat().st_ino} "
    found = []
    for entry in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = entry.read_text().splitlines()
        except OSError:
            continue
        if any(mark in line and line.endswith(library.name) for line in lines):
            found.append(entry.parent.name)
    return found
