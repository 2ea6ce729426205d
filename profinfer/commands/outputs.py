"""What `record` writes: the trace, and the captures that it is made from."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from profinfer.config import Config
from profinfer.errors import OutputError
from profinfer.output import Lent, Output, give_to_caller


class Outputs:
    """The trace, and a capture for each process that is recorded. The trace is made from them when
    recording has ended: to make it meanwhile would take time from the target."""

    def __init__(self, config: Config) -> None:
        self._path = Path(config.output + ".capture" if config.raw is None else config.raw)
        self._is_kept = config.raw is not None
        self._force = config.force
        self._captures: list[Lent] = []
        self._given = 0
        self._refuse_left(config)
        self.trace = Output(Path(config.output), force=config.force)
        try:
            if self.trace.is_same_file(self._path):
                raise OutputError("--raw and --output name the same file")
            self._open(self._path)  # before anything begins
        except OutputError:
            self.close()
            raise
        give_to_caller(self.trace)

    def _refuse_left(self, config: Config) -> None:
        """OutputError where captures of an earlier recording are there, which may only be
        overwritten. Those that none of ours takes the place of would pass for ours."""
        further = self._further()
        if config.force:
            for path in further:
                if not self._is_kept and stat.S_ISREG(path.lstat().st_mode):
                    path.unlink(missing_ok=True)
        elif self._is_kept:
            if further:
                raise OutputError(f"{further[0]} exists", "--force overwrites it")
        elif left := [path for path in (self._path, *further) if os.path.exists(path)]:
            force = "--force " if Path(config.output).exists() else ""
            names = " ".join(map(str, left))
            raise OutputError(
                f"{left[0]} exists: the capture of a recording that was cut off",
                f"profinfer convert {force}{names} {config.output} makes its trace; record --force"
                " overwrites it",
            )

    def _further(self) -> list[Path]:
        """Captures of further processes, of an earlier recording."""
        found = self._path.parent.glob("*") if self._path.parent.is_dir() else ()
        prefix = self._path.name + "."
        return sorted(
            path for path in found
            if path.name.startswith(prefix) and path.name.removeprefix(prefix).isdecimal()
        )  # fmt: skip

    def _open(self, path: Path) -> None:
        # A temporary file is nobody else's affair.
        mode = 0o644 if self._is_kept else 0o600
        capture = Lent(path, force=self._force, mode=mode)
        self._captures.append(capture)
        give_to_caller(capture)

    def capture(self) -> Lent:
        """The capture for the next process: the path of the first, then with .2, .3, ..."""
        self._given += 1
        if self._given > 1:
            self._open(self._path.with_name(f"{self._path.name}.{self._given}"))
        return self._captures[-1]

    def convert(self, show: Callable[[float], None]) -> None:
        """Makes the trace; nothing where nothing was recorded. `show` is told how far it is."""
        written = self._written()
        if not written:
            return
        # Here: who waits for a recording to end does without them.
        from profinfer.kernel.priority import give_way
        from profinfer.merging.captures import whole, write_trace

        give_way()  # the target may go on
        try:
            write_trace(whole([capture.opened for capture in written]), self.trace, show)
        except OutputError as error:
            raise OutputError(error.message, self.remedy()) from None
        except KeyboardInterrupt:
            print(f"\nprofinfer: interrupted\nhint: {self.remedy()}", file=sys.stderr)
            raise
        if not self._is_kept:
            for capture in self._captures:
                capture.remove()

    def _written(self) -> list[Lent]:
        """Captures that hold anything."""
        for capture in self._captures:
            capture.look()
        return [capture for capture in self._captures if capture.size]

    def remedy(self) -> str:
        """What to do when the trace or a capture cannot be written."""
        written = self._written()
        if not written:
            return "nothing was recorded; -o names a file elsewhere"
        size = sum(capture.size for capture in written)
        paths = " ".join(str(capture.path) for capture in written)
        return f"what was recorded is whole ({size} bytes): profinfer convert {paths} TRACE"

    def close(self) -> None:
        """Closes all of them."""
        for output in (self.trace, *self._captures):
            output.close()
