"""Processes under the audit library, and probes on its stubs."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

from profinfer import built
from profinfer.binaries.elf import Elf
from profinfer.engine import stubs
from profinfer.engine.stubs import Redirection, Stub
from profinfer.engine.target import executable_mappings
from tests.recording.own_probes import Counters

TIMEOUT = 30.0
SITES = {"x86_64": {"nop1": 4, "nop5": 5, "nop10": 10}, "aarch64": {"nop": 4, "branch": 8}}
"""Offsets in a stub at which a probe may sit."""
DEFAULT_SITE = 4


class Driver:
    """A driver (driver.c): asked by lines, it answers by lines."""

    def __init__(
        self, command: Sequence[str | Path], audit: Sequence[Path] | None = None, **environ: str
    ) -> None:
        """`audit`: the LD_AUDIT libraries; None: ours."""
        libraries = [built.AUDIT] if audit is None else audit
        variables = {**os.environ, **environ}
        if libraries:
            variables["LD_AUDIT"] = ":".join(map(str, libraries))
        self._process = subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.pid = self._process.pid
        self._answers = b""
        assert self.answer() == "ready"

    def answer(self) -> str:
        """The next line it says."""
        assert self._process.stdout
        while b"\n" not in self._answers:
            assert select.select([self._process.stdout], [], [], TIMEOUT)[0], "no answer"
            part = os.read(self._process.stdout.fileno(), 4096)
            assert part, f"it has ended with {self._process.wait(TIMEOUT)}"
            self._answers += part
        line, _, self._answers = self._answers.partition(b"\n")
        return line.decode()

    def ask(self, line: str) -> str:
        """Its answer to one command."""
        self.tell(line)
        return self.answer()

    def tell(self, line: str) -> None:
        """Gives it a command."""
        assert self._process.stdin
        self._process.stdin.write(line.encode() + b"\n")

    def open(self, path: Path, how: str = "open") -> int:
        """The number of an object that it has loaded now."""
        return int(self.ask(f"{how} {path}"))

    def run(self, index: int, times: tuple[int, int, int], threads: int = 1) -> int:
        """Calls the hot functions; every result is right. How many another auditor has marked."""
        wrong, marked = map(
            int, self.ask(f"run {index} {threads} {' '.join(map(str, times))}").split()
        )
        assert wrong == 0
        return marked

    def counts(self, index: int) -> list[int]:
        """The engine's own counts, by function."""
        return [int(count) for count in self.ask(f"counts {index}").split()]

    def stubs(self) -> dict[tuple[int, str], Stub]:
        """The stubs in use."""
        return stubs.read_redirection(self.pid).stubs

    def end(self) -> int:
        """Lets it exit; its status."""
        self.tell("exit")
        return self._process.wait(TIMEOUT)

    def close(self) -> None:
        """Ends it if it runs still."""
        self._process.kill()
        self._process.communicate(timeout=TIMEOUT)


@contextmanager
def driver(
    *command: str | Path, audit: Sequence[Path] | None = None, **environ: str
) -> Generator[Driver]:
    """A driver that ends with the block."""
    found = Driver(command, audit, **environ)
    try:
        yield found
    finally:
        found.close()


class Probes:
    """Counts what passes the stubs, by a uprobe on each; `hits` in the order of `found`."""

    def __init__(
        self, pid: int, library: Path, found: Iterable[Stub], site: int = DEFAULT_SITE
    ) -> None:
        """Refused where the kernel takes no probe."""
        self._counters = Counters()
        try:
            for index, stub in enumerate(found):
                self._counters.attach(index, library, stub.offset + site, pid)
        except BaseException:
            self.close()
            raise

    def hits(self) -> list[int]:
        """How often each has been hit so far."""
        return list(self._counters.runs().values())

    def close(self) -> None:
        """Detaches."""
        self._counters.close()


@contextmanager
def probes(pid: int, redirection: Redirection, site: int = DEFAULT_SITE) -> Generator[Probes]:
    """Probes on all stubs of a process, in the order of redirection.stubs."""
    assert redirection.library
    found = Probes(pid, redirection.library, redirection.stubs.values(), site)
    try:
        yield found
    finally:
        found.close()


def base_of(pid: int, library: Path) -> int:
    """Where a process has loaded a library."""
    identity = library.stat().st_ino
    elf = Elf(library)
    [base] = {
        mapping.start - elf.vaddr_of(mapping.offset)
        for mapping in executable_mappings(pid)
        if mapping.identity[1] == identity
    }
    return base
