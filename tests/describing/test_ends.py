"""Whoever asked may be killed at any moment, and a process may become another: nothing is left, and
nobody's answers are kept as another's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.describing import sandbox
from profinfer.describing.describe import describe_process
from profinfer.describing.roots import own_root, root_of
from profinfer.describing.sandbox import Answer, Request, ask
from profinfer.engine import target
from profinfer.engine.target import EngineObject, executable_mappings, owner
from profinfer.errors import TargetError
from tests.conftest import require
from tests.hostile import Place, alive

OWNER = 23456
"""Whom no system knows."""
_LATE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
__attribute__((constructor)) static void start(void) { unsetenv("LD_PRELOAD"); }
int prctl(int option, ...) {
  unsigned long a[4];
  va_list v;
  va_start(v, option);
  for (int i = 0; i < 4; i++) a[i] = va_arg(v, unsigned long);
  va_end(v);
  if (option == PR_SET_PDEATHSIG && ASLEEP) usleep(700000);
  int (*real)(int, ...) = (int (*)(int, ...))dlsym(RTLD_NEXT, "prctl");
  return real(option, a[0], a[1], a[2], a[3]);
}
"""


def _asked(elf: Elf, timeout: float = 20) -> Answer:
    symbols = {name: (0, value) for name, value in elf.functions_from(("ggml_",)).items()}
    request = Request([(elf.descriptor, str(elf.path))], 0, symbols, own_root())
    who = OWNER if os.geteuid() == 0 else os.geteuid()
    return ask(request, uid=who, gid=who, timeout=timeout)


def _until(found: Callable[[], object], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found():
            return True
        time.sleep(0.02)
    return False


def _confiners() -> set[int]:
    """The processes that confine, by their program."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "exe").endswith("/profinfer-confine"):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def _children() -> set[int]:
    folder = Path("/proc/self/task")
    return {
        int(pid) for task in folder.iterdir() for pid in (task / "children").read_text().split()
    }


def _preload(folder: Path, asleep: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What confines takes its time where it asks to die with its parent."""
    source, late = folder / "late.c", folder / "late.so"
    source.write_text(_LATE.replace("ASLEEP", asleep))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", late, source], check=True, timeout=60)
    monkeypatch.setitem(sandbox._ENVIRONMENT, "LD_PRELOAD", str(late))


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("asleep", ["getpid() == 1", "getpid() == 1 && getuid()"])
def test_who_confines_is_killed(
    asleep: str, here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first process of the namespace has asked to be told, or while it has yet to ask
    again, as another user."""
    library = here.build("for (;;) pause();")
    _preload(tmp_path, asleep, monkeypatch)
    # As if who asks had no time to look after it.
    monkeypatch.setattr(sandbox, "_end", lambda process: process.wait())
    before, elf, answers = _confiners(), Elf(library), []
    thread = threading.Thread(target=lambda: answers.append(_asked(elf)))
    thread.start()
    assert _until(lambda: len(_confiners() - before) >= 2)
    if "getuid" in asleep:
        assert _until(lambda: alive(library))
    for pid in (_confiners() - before) & _children():
        os.kill(pid, signal.SIGKILL)
    thread.join()
    elf.close()
    assert answers[0].failure == "it was ended by SIGKILL"
    assert _until(lambda: not _confiners() - before and not alive(library), 3)


def test_who_asks_is_killed(here: Place, tmp_path: Path) -> None:
    """Before what confines has asked to be told."""
    library = here.build("for (;;) pause();")
    late = tmp_path / "late.so"
    code = f"""
import os, sys
from pathlib import Path
import pytest
from profinfer.binaries.elf import Elf
from tests.describing import test_ends
with pytest.MonkeyPatch.context() as patch:
    test_ends._preload(Path({str(tmp_path)!r}), f"getppid() == {{os.getpid()}}", patch)
    print(flush=True)
    test_ends._asked(Elf({str(library)!r}))
"""
    before = _confiners()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    assert late.exists()
    assert _until(lambda: _confiners() - before)
    process.kill()
    process.wait()
    process.stdout.close()
    assert _until(lambda: not _confiners() - before and not alive(library), 3)


def _objects(pid: int, library: Path) -> list[EngineObject]:
    """A mapped library, as one of an engine."""
    for mapping in executable_mappings(pid):
        if mapping.path == str(library):
            return [
                EngineObject(mapping.path, library, library, Elf(library), (0,), mapping.identity)
            ]
    return []


@pytest.mark.usefixtures("as_root")
def test_another_program_is_another_process(here: Place) -> None:
    """Who runs a program of root's in the meanwhile makes root neither load a library nor keep what
    it says for libraries of root's own: build ids are easily forged."""
    first = "import ctypes, os, sys\nctypes.CDLL(sys.argv[1], os.RTLD_LAZY)"
    library = here.build('if (!getenv("MAPPED")) { SAY("loaded by %d\\n", getuid()); _exit(7); }')
    code = (
        f"{first}\nprint(flush=True)\nsys.stdin.readline()\nos.execv('/bin/sleep', ['sleep', '60'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, library],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"MAPPED": "1"},
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    try:
        process.stdout.readline()
        objects = _objects(process.pid, library)
        assert objects
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert _until(lambda: os.readlink(f"/proc/{process.pid}/exe").endswith("/sleep"))
        with pytest.raises(TargetError, match=f"process {process.pid} runs something else by now"):
            describe_process(process.pid, objects)
    finally:
        process.kill()
        process.communicate()


def test_an_ended_process_has_no_root() -> None:
    """That is said, whenever it happens."""
    require("root (to enter other roots)", os.geteuid() == 0)
    process = subprocess.Popen(["unshare", "--mount", "--root", "/", "sleep", "60"])
    assert _until(lambda: os.readlink(f"/proc/{process.pid}/exe").endswith("/sleep"))
    root = root_of(process.pid)
    assert root.identity
    process.kill()
    process.wait()
    with pytest.raises(TargetError, match=f"cannot see /proc/{process.pid}/root: No such file"):
        _ = root.identity
    with pytest.raises(TargetError):
        owner(process.pid)


def test_mappings_are_of_whom_they_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two looks it may have become another user's."""
    owners = [(OWNER, OWNER), (0, 0), (0, 0)]
    monkeypatch.setattr(target, "owner", lambda _pid: owners.pop(0))
    who, mappings = target.owned_mappings(os.getpid())
    assert (who, owners) == ((0, 0), [])
    assert mappings
    changing = iter(range(100))
    monkeypatch.setattr(target, "owner", lambda _pid: (next(changing), 0))
    with pytest.raises(TargetError, match="becomes another user's all the time"):
        target.owned_mappings(os.getpid())
