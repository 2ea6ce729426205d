"""Libraries that pretend to be ggml and do something else when they are loaded."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

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

# Says who it is and what it may do as the last line of its life.
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
    fprintf(stderr, "I am %d/%d groups %d caps %s connect %d setuid %d nnp %d core %ld ld %s end\n",
        getuid(), getgid(), getgroups(0, 0), caps, connected, root_again,
        prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), (long)core.rlim_cur,
        getenv("LD_PRELOAD") || getenv("PROFINFER_SECRET") ? "leaked" : "clean");
    """


def build_hostile(folder: Path, compiler: str, body: str) -> Path:
    """A library with ggml's names whose constructor runs the given C statements."""
    require(compiler, shutil.which(compiler))
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


def report(port: int, end: str = "abort();") -> str:
    """Statements that say who runs them and whether they reach a port of this machine."""
    return f"{_REPORT.replace('PORT', str(port))}{end}"


def alive(library: Path) -> list[str]:
    """Processes that have the library mapped."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/maps"):
        try:
            if str(library) in entry.read_text():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found
