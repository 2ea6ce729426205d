"""Who can execute nothing but files that are known to hold no engine is not stopped; what has
become another file, or another program, is told all the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from profinfer.built import AUDIT
from tests.conftest import require
from tests.recorder.holding import Holding

MARKS = ("ggml_",)
RUNS = 20
COUNT = f"""
import json, os
counts = []
for _ in range({RUNS}):
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    counts.append(os.wait4(pid, 0)[2].ru_nvcsw)
print(json.dumps(counts))
"""
"""How often each of them leaves its CPU by itself: once, and whenever it is stopped."""


def told(holding: Holding) -> list[tuple[int, bool]]:
    """Of whom it is told until the command has ended, and whether after exec; all go on."""
    found = []
    while (said := holding.hear()).get("event") != "exited":
        if said.get("event") == "stopped":
            found.append((said["pid"], said["after_exec"]))
            holding.ask("go", pid=said["pid"])
    assert said["status"] == 0
    return found


def looks_at_files() -> bool:
    """Whether this kernel lends what that takes (Linux 6.7)."""
    return " bpf_iter_task_vma_new\n" in Path("/proc/kallsyms").read_text()


@pytest.mark.parametrize("marks", [MARKS, ()], ids=["known", "anything may be one"])
def test_who_executes_only_known_files_is_not_stopped(
    recorder: Path, marks: tuple[str, ...]
) -> None:
    require("bpf_iter_task_vma_new (Linux 6.7)", looks_at_files(), hardware=True)
    with Holding(recorder, stdout=subprocess.PIPE) as holding:
        holding.launch("/usr/bin/python3", "-c", COUNT, marks=marks)
        assert bool(told(holding)) is not bool(marks)
        holding.close()
        assert holding.process.stdout
        counts = json.loads(holding.process.stdout.read())
    # On a busy machine one or the other sleeps.
    assert len(counts) == RUNS
    assert min(counts[1:]) <= 1 if marks else min(counts) >= 3, counts


def test_a_file_that_has_been_written_to_is_another(
    recorder: Path, built: Path, tmp_path: Path
) -> None:
    """A program, and a library that another one has loaded, which itself is known: that there is
    another program now is told then."""
    program, library = tmp_path / "program", tmp_path / "library.so"
    script = f"""
        cat /bin/true >{program}; cat {built}/libnoggml.so >{library}; chmod +x {program}
        for i in 1 2 3; do {program}; LD_PRELOAD={library} /bin/true; done
        cat {built}/known >{program}; cat {built}/libknown.so >{library}
        export LD_LIBRARY_PATH={built}
        {program} --threads 1 --layers 1 --prompt 3 --decode 1 >/dev/null
        (LD_PRELOAD={library} exec /bin/true); :
    """
    with Holding(recorder) as holding:
        holding.launch("/bin/sh", "-c", script, marks=MARKS)
        found = told(holding)
    assert len({pid for pid, _ in found}) == 2
    first, other = found[0][0], found[-1][0]
    assert next(after_exec for pid, after_exec in found if pid == first)
    assert [after_exec for pid, after_exec in found if pid == other] == [True]


def test_in_another_root_the_audit_library_goes_all_the_same(
    recorder: Path, tmp_path: Path
) -> None:
    """There the loader is the same file."""
    root, library = tmp_path / "root", tmp_path / "audit.so"
    library.write_bytes(AUDIT.read_bytes())
    (root / "usr").mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    script = f"""
        /usr/bin/printenv LD_AUDIT
        exec unshare --mount sh -c 'mount --bind /usr {root}/usr
            chroot {root} /usr/bin/printenv LD_AUDIT; exec /usr/bin/printenv LD_AUDIT'
    """
    with Holding(recorder, stdout=subprocess.PIPE) as holding:
        holding.launch("/bin/sh", "-c", script, audit=str(library), marks=MARKS)
        told(holding)
        holding.close()
        assert holding.process.stdout
        assert holding.process.stdout.read().decode() == f"{library}\n\n{library}\n"
