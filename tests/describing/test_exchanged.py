"""Files that are exchanged, covered or made huge in the very moment an engine is described."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.describing.roots import own_root
from profinfer.describing.sandbox import Answer, Request, ask
from tests.hostile import Place

pytestmark = pytest.mark.usefixtures("as_root")

OWNER = 23456
"""Whom no system knows."""
_LISTS_COPIES = r"""
    char secret[64] = "";
    int copies = 0;
    DIR *d = opendir("/.profinfer/copies");
    for (struct dirent *e; d && (e = readdir(d));) copies += e->d_name[0] != '.';
    int fd = open("/.profinfer/copies/libsecret.so", O_RDONLY);
    if (fd >= 0) read(fd, secret, 63);
    SAY("copies %d secret '%s'\n", copies, secret);
    _exit(7);
    """


def _asked(place: Place, elf: Elf, path: Path) -> Answer:
    """What becomes of root's file, already open, at a path that may lead elsewhere by now."""
    root = place.root or own_root()
    functions = elf.functions_from(("ggml_",))
    symbols = {name: (0, value) for name, value in functions.items()}
    request = Request([(elf.descriptor, root.inside(path))], 0, symbols, root)
    return ask(request, uid=0, gid=0, timeout=10)


def _exchange(folder: Path, target: str) -> None:
    """A link in the place of a folder."""
    folder.rename(folder.with_name("old"))
    folder.symlink_to(target)


def _closed(folder: Path) -> Path:
    """A folder of root's with a file that looks like a library."""
    folder.mkdir(mode=0o700)
    (folder / "libsecret.so").write_text("xyzzy")
    return folder


def test_root_follows_no_link_to_what_is_open(elsewhere: Place) -> None:
    """By /proc a link in a foreign root could lead to a folder that we have open, and from there
    anywhere: what is beside an engine is copied for nobody, by root."""
    library = elsewhere.build(_LISTS_COPIES)
    with_secret = _closed(elsewhere.top.with_name("outside"))
    elf = Elf(library)
    _exchange(library.parent, "nowhere")
    for number in range(3, 20):
        library.parent.unlink()
        library.parent.symlink_to(f"/proc/self/fd/{number}/../{with_secret.name}")
        assert "copies 1 secret ''" in str(_asked(elsewhere, elf, library).failure)
    elf.close()


def test_root_copies_from_no_other_folder(place: Place) -> None:
    """A link in the place of an engine's folder leads to one that is closed."""
    library = place.build(_LISTS_COPIES)
    outer = place.folder.parent if place.top == Path("/") else place.top
    other = _closed(outer / "closed")
    elf = Elf(library)
    _exchange(library.parent, f"/{other.relative_to(place.top)}")
    assert "copies 1 secret ''" in str(_asked(place, elf, library).failure)
    elf.close()


def test_a_huge_file_is_not_copied(here: Place) -> None:
    """What was deleted is copied into memory, of which there is less than a file can claim."""
    library = here.build("_exit(7);")
    os.truncate(library, 64 << 30)
    elf = Elf(library)
    library.unlink()
    answer = _asked(here, elf, library)
    elf.close()
    assert answer.data == {"error": "libevil.so is too large to be copied"}


@pytest.mark.parametrize("uid", [0, OWNER])
def test_who_asks_may_close_new_files_to_others(uid: int, place: Place) -> None:
    library = place.build("_exit(7);")
    before = os.umask(0o077)
    try:
        assert "status 7" in place.fails(library, uid=uid)
    finally:
        os.umask(before)


def test_a_file_of_proc_that_is_mounted_elsewhere(elsewhere: Place) -> None:
    """It is hidden as a whole /proc is, and stops nobody."""
    there = elsewhere.top / "etc/a file"
    there.parent.mkdir()
    there.write_text("what was there")
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/status", there], check=True)
    try:
        body = r"""
        struct stat s;
        int there = !stat("/etc/a file", &s), fd = open("/etc/a file", O_RDWR), got = 0;
        char text[64];
        for (int f = open("/etc/a file", O_RDONLY); f >= 0 && read(f, text, 64) > 0;) got++;
        SAY("there %d writable %d got %d\n", there, fd >= 0, got);
        _exit(7);
        """
        assert "there 1 writable 0 got 0" in elsewhere.fails(body, uid=OWNER)
    finally:
        subprocess.run(["umount", there], check=True)
    assert there.read_text() == "what was there"


_COUNT = 8
_SHOWN = rf"""
    int seen = 0;
    for (int turn = 0; turn < 20000; turn++)
      for (int i = 0; i < {_COUNT}; i++) {{
        char path[64];
        sprintf(path, "/deep/%s/%d/1/status", turn % 2 ? "one" : "other", i);
        seen += !access(path, F_OK);
      }}
    SAY("seen %d.\n", seen);
    _exit(7);
    """
_EXCHANGES = """
import ctypes, os, sys
one, other = (os.fsencode(path) for path in sys.argv[1:])
while True:
    ctypes.CDLL(None).renameat2(-100, one, -100, other, 2)
"""


def test_a_proc_whose_folder_is_exchanged(elsewhere: Place) -> None:
    """What hides it goes where it is, and not where the path leads to by now."""
    library = elsewhere.build(_SHOWN)
    deep = elsewhere.top / "deep"
    one, other, decoy = deep / "one", deep / "other", deep / "decoy"
    for number in range(_COUNT):
        for folder in (one, decoy):
            (folder / str(number)).mkdir(parents=True)
    other.symlink_to(decoy.name)
    places = [one / str(number) for number in range(_COUNT)]
    for place in (*places, places[0]):
        subprocess.run(["mount", "-t", "proc", "proc", place], check=True)
    try:
        assert "seen 0." in elsewhere.fails(library, uid=OWNER)
        with subprocess.Popen([sys.executable, "-c", _EXCHANGES, one, other]) as process:
            try:
                for _ in range(8):
                    assert "seen 0." in elsewhere.fails(library, uid=OWNER)
            finally:
                process.kill()
    finally:
        # Wherever they are by now.
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if f"{deep}/" in line:
                subprocess.run(["umount", line.split()[4]], check=True)
