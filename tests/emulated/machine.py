"""Emulated machines: a Debian kernel, an initramfs made on the spot, one command, its results.

    result = boot("arm64-6.1", "uname -m; tool /data >result", {"/bin/tool": tool})
    result.output, result.status, result.files["result"]

The machine has busybox (a shell and the usual commands), the files it is given, nothing else: no
network, no disk unless one is asked for. It runs the command once, as root, and is gone.
"""

from __future__ import annotations

import io
import json
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from tests.conftest import REPO, require
from tests.emulated.initramfs import Content, tree, write_initramfs

EMULATED = REPO / "build/emulated"
KERNELS = (
    *("arm64-5.10", "arm64-6.1", "arm64-6.12"),
    *("x86-5.10", "x86-6.1", "x86-6.12", "x86-current"),
)
CONSOLE_LINES = 60
PATCHED = re.compile(r"RIP: 0010:(__schedule|try_to_wake_up)\+")
"""Where the scheduler's tracepoints are."""
STARVED = re.compile(r"rcu: \w+ kthread starved for (\d+) jiffies!")
HUNG_JIFFIES = 15_000
"""A minute, as kernels of Debian count: what a busy emulator is late by is far less."""
BOOTS = 3
BOOT_TIMEOUT = 120
BEGUN = "running /command"
"""What init.sh says on the console before anything of ours runs."""


class MachineError(Exception):
    """A machine that did not come to its end: why, and the last lines of its console."""


@dataclass(frozen=True)
class Result:
    """What a machine leaves behind: the command's output and exit status, and files."""

    output: str
    status: int
    files: dict[str, bytes]
    console: str

    def check(self) -> Result:
        """Itself, when the command succeeded."""
        assert self.status == 0, f"exit status {self.status}\n{self.output}\n{self.console}"
        return self


@dataclass(frozen=True)
class Processor:
    """How qemu emulates one kind of machine."""

    machine: str
    qemu: str
    options: tuple[str, ...]
    console: str


AARCH64 = Processor(
    "aarch64", "qemu-system-aarch64", ("-M", "virt", "-cpu", "cortex-a76"), "ttyAMA0"
)
# qemu 7.2 returns wrong flags from cmpxchg16b now and then, and the kernel's allocator, which has
# other means where a processor lacks it, falls over them. Five levels of page tables are just slow.
X86_64 = Processor(
    "x86_64", "qemu-system-x86_64", ("-M", "q35", "-cpu", "max,cx16=off,la57=off"), "ttyS0"
)


def processor(kernel: str) -> Processor:
    """The processor a kernel is for."""
    return AARCH64 if kernel.startswith("arm64") else X86_64


def compiler(kernel: str) -> str:
    """The C compiler for a kernel's machine."""
    machine = processor(kernel).machine
    return "gcc" if machine == platform.machine() else f"{machine}-linux-gnu-gcc"


def require_machine(kernel: str) -> None:
    """Skips where set-up has not fetched this kernel, its emulator or its compiler."""
    qemu = processor(kernel).qemu
    require(qemu, shutil.which(qemu))
    require(f"the kernel {kernel}", (EMULATED / "kernels" / kernel / "vmlinuz").exists())
    require(compiler(kernel), shutil.which(compiler(kernel)))


def kernel_version(kernel: str) -> str:
    """The version of a kernel's Debian package."""
    packages = json.loads((EMULATED / "manifest.json").read_text())["packages"]
    (version,) = {each["version"] for each in packages if each["used_for"] == f"kernel {kernel}"}
    return str(version)


def boot(
    kernel: str,
    command: str,
    files: Mapping[str, Content] | None = None,
    *,
    disks: Sequence[Path] = (),
    cpus: int = 2,
    megabytes: int = 1024,
    count_instructions: bool = False,
    timeout: float = 120,
    stop: Event | None = None,
) -> Result:
    """Boots a kernel, runs a shell command in an empty folder, and returns what came of it.

    `files` are laid at absolute paths; `disks` (raw images) are /dev/vda, /dev/vdb, ..., read only.
    With `count_instructions` one processor retires one instruction every 2 ns of virtual time
    and never sleeps: counters of retired instructions then count, and time is not the world's.
    Raises MachineError when the machine crashes or the command takes more than `timeout` seconds,
    or when `stop` is set.
    """
    require_machine(kernel)
    kind = processor(kernel)
    with tempfile.TemporaryDirectory(prefix="profinfer-machine-") as name:
        folder = Path(name)
        content: dict[str, Content] = {
            "/init": REPO / "tests/emulated/init.sh",
            "/bin/busybox": EMULATED / "busybox" / kind.machine,
            "/command": command.encode(),
            **dict(tree(EMULATED / "kernels" / kernel / "modules", "/modules")),
            **(files or {}),
        }
        write_initramfs(folder / "initramfs", content)
        arguments = [
            *(kind.qemu, *kind.options, "-m", str(megabytes)),
            *("-display", "none", "-no-reboot", "-nodefaults", "-no-user-config"),
            *("-serial", f"file:{folder}/console"),
            *("-kernel", str(EMULATED / "kernels" / kernel / "vmlinuz")),
            *("-initrd", str(folder / "initramfs")),
            *("-append", f"console={kind.console} panic=-1 oops=panic quiet"),
            *_ports(folder),
        ]
        for number, disk in enumerate(disks):
            drive = f"file={disk},format=raw,if=none,id=disk{number},readonly=on"
            arguments += ["-drive", drive, "-device", f"virtio-blk-pci,drive=disk{number}"]
        if count_instructions:
            arguments += ["-smp", "1", "-icount", "shift=1,align=off,sleep=off"]
        else:
            arguments += ["-smp", str(cpus)]
        # qemu's processors do not bear all that kernels do while they boot (code that one of them
        # patches while another runs it): once in a while one fails before our turn comes, or in the
        # scheduler when its tracepoints are switched on; or one sleeps on while it has work.
        for _ in range(BOOTS):
            problem = _run(arguments, folder / "console", timeout, stop or Event())
            console = _text(folder / "console")
            has_crashed = hangs(console) or bool(
                "Kernel panic" in console and PATCHED.search(console)
            )
            if (BEGUN in console and not has_crashed) or (stop and stop.is_set()):
                break
        return _result(folder, problem)


def _ports(folder: Path) -> list[str]:
    """Two character devices, /dev/vport0p1 and p2: binary safe, and fast where a UART is not."""
    options = ["-device", "virtio-serial-pci"]
    for number, name in ((1, "output"), (2, "files")):
        options += ["-chardev", f"file,id={name},path={folder}/{name}"]
        options += ["-device", f"virtserialport,chardev={name},nr={number}"]
    return options


def _run(arguments: Sequence[str], console: Path, timeout: float, stop: Event) -> str:
    """Runs qemu to its end; what went wrong, if anything did."""
    with subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as machine:
        phases = [(BOOT_TIMEOUT, "come to the command"), (timeout, "finished")]
        try:
            until = time.monotonic() + BOOT_TIMEOUT
            while machine.poll() is None:
                if len(phases) == 2 and _has_begun(console):
                    del phases[0]
                    until = time.monotonic() + timeout
                if stop.wait(0.1):
                    return "nobody waits for it any more"
                if hangs(_text(console)):
                    return "a processor of it does nothing any more"
                if time.monotonic() > until:
                    return f"it had not {phases[0][1]} after {phases[0][0]} s"
            _, said = machine.communicate()
        finally:
            machine.kill()
    return f"qemu: {said.strip()}" if machine.returncode else ""


def hangs(console: str) -> bool:
    """Whether the kernel has said of itself that threads of its own have not run for long."""
    return any(int(jiffies) >= HUNG_JIFFIES for jiffies in STARVED.findall(console))


def _has_begun(console: Path) -> bool:
    return BEGUN in _text(console)


def _result(folder: Path, problem: str) -> Result:
    """Reads what a machine has left in its folder; raises MachineError if it is not all there."""
    console, output = (_text(folder / name) for name in ("console", "output"))
    try:
        with tarfile.open(folder / "files") as archive:
            members = {each.name: each for each in archive if each.isfile()}
            content = {name: _read(archive, member) for name, member in members.items()}
    except (OSError, tarfile.TarError) as error:
        problem = problem or f"it gave back no files ({error})"
    if problem:
        raise MachineError(
            f"the machine failed: {problem}\n--- the command's output\n{_tail(output)}\n"
            f"--- console\n{_tail(console)}"
        )
    status = int(content.pop("status"))
    files = {name.removeprefix("left/"): data for name, data in content.items()}
    return Result(output, status, files, console)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return (archive.extractfile(member) or io.BytesIO()).read()


def _text(path: Path) -> str:
    return path.read_text(errors="replace").replace("\r\n", "\n") if path.exists() else ""


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-CONSOLE_LINES:])
