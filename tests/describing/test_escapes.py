"""Ways out, tried by a library while it is loaded: none leads anywhere, on this system, in another
root, or emulated."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import require
from tests.hostile import Place

pytestmark = pytest.mark.usefixtures("as_root")

OWNER = 23456
"""Whom no system knows."""


@pytest.fixture
def own(place: Place) -> Place:
    """A library and its folder that belong to somebody."""
    os.chown(place.folder, OWNER, OWNER)
    return place


@contextmanager
def _neighbour() -> Iterator[int]:
    """Another process of the owner's, with a secret in its environment."""
    sleeper = shutil.which("sleep")
    process = subprocess.Popen(
        [str(sleeper), "60"], user=OWNER, group=OWNER, extra_groups=(), env={"SECRET": "xyzzy"}
    )
    try:
        yield process.pid
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_descriptors(own: Place) -> None:
    """What is open is the way to us, and none of it is a folder, a file or a socket."""
    body = r"""
    char kinds[128] = "";
    for (int fd = 0; fd < 1024; fd++) {
      struct stat s;
      if (fstat(fd, &s)) continue;
      int null = S_ISCHR(s.st_mode) && s.st_rdev == 0x103;
      int known = fd < 4 && (S_ISFIFO(s.st_mode) || null);
      // Those of the describer's own to look into memory.
      if (!known && !S_ISFIFO(s.st_mode)) sprintf(kinds + strlen(kinds), " %d:%o", fd, s.st_mode);
    }
    int named = 0, folders = 0;
    DIR *d = opendir("/proc/self/fd");
    for (struct dirent *e; d && (e = readdir(d));) {
      struct stat s;
      named++;
      if (atoi(e->d_name) != dirfd(d) && !fstatat(dirfd(d), e->d_name, &s, 0))
        folders += S_ISDIR(s.st_mode) && e->d_name[0] != '.';
    }
    SAY("named %d folders %d odd%s.\n", named, folders, kinds);
    _exit(7);
    """
    message = own.fails(body, uid=OWNER)
    found = re.search(r"named (\d+) folders 0 odd\.", message)
    assert found, message
    assert int(found[1]) >= 4


def test_leaving_the_root(own: Place) -> None:
    """Where the root is another one than this system's there is no /etc in it."""
    body = r"""
    int top = open("/", O_RDONLY | O_DIRECTORY), rest[8];
    rest[0] = TRY(chroot("/"));
    rest[1] = TRY(chroot("."));
    rest[2] = TRY(mkdir("/made", 0755));
    fchdir(top);
    for (int i = 0; i < 64; i++) chdir("..");
    rest[3] = TRY(chroot("."));
    rest[4] = TRY(syscall(SYS_unshare, CLONE_NEWUSER));
    rest[5] = TRY(syscall(SYS_unshare, CLONE_NEWNS));
    rest[6] = TRY(mount("tmpfs", "/", "tmpfs", 0, ""));
    rest[7] = TRY(umount2("/proc", MNT_DETACH));
    int all = 1;
    for (int i = 0; i < 8; i++) all &= rest[i] == EPERM || rest[i] == EACCES || rest[i] == EROFS;
    int away = open("../../../../../../../../etc/passwd", O_RDONLY);
    SAY("all refused %d passwd %d\n", all, away >= 0);
    _exit(7);
    """
    assert f"all refused 1 passwd {int(own.top == Path('/'))}" in own.fails(body, uid=OWNER)


def test_no_namespace_of_its_own(own: Place) -> None:
    body = r"""
    int asked = TRY(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    int other = TRY(syscall(SYS_setns, 0, 0));
    SAY("clone %d setns %d\n", asked != 0, other != 0);
    _exit(7);
    """
    assert "clone 1 setns 1" in own.fails(body, uid=OWNER)


def test_killing(own: Place) -> None:
    """Neither those who look after it, nor anybody else's processes of the same user."""
    with _neighbour() as pid:
        body = rf"""
        int parent = TRY(kill(getppid(), SIGKILL)), first = TRY(kill(1, SIGKILL));
        int other = TRY(kill({pid}, SIGKILL));
        signal(SIGTERM, SIG_IGN);
        kill(-1, SIGTERM);
        for (int n = 2; n < 70000; n++) {{
          char own[64];
          sprintf(own, "/proc/self/task/%d", n);
          if (access(own, F_OK)) kill(n, SIGKILL);
        }}
        SAY("other %d\n", other);
        _exit(7);
        """
        assert "status 7 (other 3)" in own.fails(body, uid=OWNER)
        time.sleep(0.05)


def test_reading_other_processes(own: Place) -> None:
    with _neighbour() as pid:
        body = rf"""
        char path[64], text[64] = "", word[64] = "";
        struct iovec here = {{text, sizeof text}}, there = {{(void *)&here, 8}};
        int seen = 0, read_it = 0;
        DIR *d = opendir("/proc");
        for (struct dirent *e; d && (e = readdir(d));) {{
          if (atoi(e->d_name) <= 0) continue;
          seen++;
          sprintf(path, "/proc/%s/environ", e->d_name);
          int fd = open(path, O_RDONLY);
          if (fd >= 0 && read(fd, text, 63) > 0 && strstr(text, "xyzzy")) read_it++;
        }}
        sprintf(path, "/proc/%d/mem", {pid});
        int memory = open(path, O_RDWR);
        int vm = process_vm_readv({pid}, &here, 1, &there, 1, 0) >= 0;
        int traced = !TRY(syscall(SYS_ptrace, PTRACE_ATTACH, {pid}, 0, 0));
        int root = !TRY(access("/proc/1/root/etc", F_OK));
        SAY("seen %d read %d mem %d vm %d ptrace %d root %d\n", seen, read_it, memory >= 0, vm,
            traced, root);
        _exit(7);
        """
        message = own.fails(body, uid=OWNER)
    found = re.search(r"seen (\d+) read 0 mem 0 vm 0 ptrace 0 root 0", message)
    assert found, message
    assert 0 < int(found[1]) <= 12, "only what has been started for it"


def test_another_proc_that_shows_other_processes(tmp_path: Path, own: Place) -> None:
    """A /proc may be mounted anywhere."""
    other = (tmp_path if own.top == Path("/") else own.top) / "other proc"
    other.mkdir()
    name = "/other proc" if own.top != Path("/") else str(other)
    subprocess.run(["mount", "-t", "proc", "proc", other], check=True)
    try:
        body = rf"""
        int seen = 0;
        DIR *d = opendir("{name}");
        for (struct dirent *e; d && (e = readdir(d));) seen += atoi(e->d_name) > 0;
        SAY("there %d seen %d\n", d != 0, seen);
        _exit(7);
        """
        tmp_path.chmod(0o755)
        for folder in (*tmp_path.parents[:3], tmp_path):
            folder.chmod(folder.stat().st_mode | 0o055) if folder != Path("/tmp") else None
        assert "there 1 seen 0" in own.fails(body, uid=OWNER)
    finally:
        subprocess.run(["umount", other], check=True)
    assert str(other).replace(" ", "\\040") not in Path("/proc/self/mountinfo").read_text()


def test_writing_files(own: Place) -> None:
    """Nothing can be written but a little in the folder for it, and that is gone afterwards."""
    for folder in (own.folder, own.folder / "open"):
        folder.mkdir(exist_ok=True)
        os.chown(folder, OWNER, OWNER)
        folder.chmod(0o777)
    body = r"""
    char *places[] = {beside("."), beside("open"), "/", "/tmp", "/var/tmp", "/dev", "/dev/shm",
                      "/run", "/.profinfer", "/.profinfer/copies"};
    int made = 0;
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
      char path[512];
      sprintf(path, "%s/made-by-evil", places[i]);
      made += open(path, O_WRONLY | O_CREAT, 0666) >= 0;
    }
    int changed = truncate(beside("libevil.so"), 0) == 0;
    int linked = symlink("/etc/passwd", beside("link")) == 0;
    static char block[1 << 16];
    long long total = 0;
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 200; i++) {
      char path[64];
      sprintf(path, "/.profinfer/scratch/%d", i);
      int fd = open(path, O_WRONLY | O_CREAT, 0666);
      for (ssize_t n; fd >= 0 && (n = write(fd, block, sizeof block)) > 0;) total += n;
      close(fd);
    }
    SAY("made %d changed %d linked %d scratch %d\n", made, changed, linked,
        total > 1 << 20 && total <= 8 << 20);
    _exit(7);
    """
    before = sorted(path.name for path in own.folder.iterdir())
    assert "made 0 changed 0 linked 0 scratch 1" in own.fails(body, uid=OWNER)
    assert {path.name for path in own.folder.iterdir()} - {*before} == {"evil.c", "libevil.so"}
    assert not Path("/.profinfer").exists()
    assert not (own.top / ".profinfer").exists()


def test_memory_is_bounded(own: Place) -> None:
    body = r"""
    long long total = 0;
    for (size_t size = 1ull << 32; size >= 1 << 20;) {
      void *got = mmap(0, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (got == MAP_FAILED) size /= 2; else total += size;
    }
    SAY("bounded %d\n", total > 1 << 20 && total <= 16ll << 30);
    _exit(7);
    """
    assert "bounded 1" in own.fails(body, uid=OWNER)


def test_sockets(own: Place) -> None:
    """A socket in a folder leads to whoever listens there, whatever the network is."""
    where = own.folder / "listening"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(where))
        server.listen()
        where.chmod(0o777)
        body = r"""
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        strcpy(a.sun_path, beside("listening"));
        int local = socket(AF_UNIX, SOCK_STREAM, 0);
        int reached = local >= 0 && !connect(local, (void *)&a, sizeof a);
        int host = socket(AF_VSOCK, SOCK_STREAM, 0), packets = socket(AF_NETLINK, SOCK_RAW, 0);
        SAY("there %d reached %d host %d netlink %d\n", !access(beside("listening"), F_OK), reached,
            host >= 0, packets >= 0);
        _exit(7);
        """
        assert "there 1 reached 0 host 0 netlink 0" in own.fails(body, uid=OWNER)


def test_programs_that_give_privileges(own: Place) -> None:
    """A program of root's that everybody runs as root is run as who runs it."""
    program, source = own.folder / "privileged", own.folder / "privileged.c"
    source.write_text("#include <unistd.h>\nint main(void) { return geteuid() ? 70 : 71; }\n")
    require(own.compiler, shutil.which(own.compiler))
    # By an emulator's program another of the same machine would be started anyhow.
    subprocess.run(["gcc", "-static", "-w", "-o", program, source], check=True)
    os.chown(program, 0, 0)
    program.chmod(0o4755)
    body = r"""
    char *path = beside("privileged");
    execl(path, path, (char *)0);
    _exit(8);
    """
    assert "status 70" in own.fails(body, uid=OWNER)


def test_the_keys_of_the_user(own: Place) -> None:
    body = r"""
    long serial = syscall(SYS_keyctl, 0, -4, 1);
    long added = syscall(SYS_add_key, "user", "evil", "x", 1, -4);
    SAY("keys %d %d\n", serial >= 0, added >= 0);
    _exit(7);
    """
    assert "keys 0 0" in own.fails(body, uid=OWNER)


def test_devices(own: Place) -> None:
    """A node that lies anywhere else than in /dev is none, either."""
    node = own.folder / "null"
    os.mknod(node, 0o20666, os.makedev(1, 3))
    node.chmod(0o666)
    body = r"""
    int here = TRY(open(beside("null"), O_RDWR)), usual = TRY(open("/dev/null", O_RDWR));
    SAY("here %d usual %d\n", here, usual);
    _exit(7);
    """
    assert "here 13 usual 2" in own.fails(body, uid=OWNER)
