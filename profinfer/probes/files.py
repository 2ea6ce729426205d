"""A target as files: an engine's libraries, or copies of them, perhaps for another machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from profinfer.describing.describe import describe
from profinfer.describing.layout import Layout
from profinfer.describing.roots import find_root, is_native
from profinfer.engine.description import is_engine
from profinfer.engine.target import EngineObject, file_object
from profinfer.errors import TargetError
from profinfer.probes.hitcost import HitCost
from profinfer.probes.placement import Placer
from profinfer.probes.plan import Plan, make_plan
from profinfer.probes.ranks import RANKS

_HOME = "ggml_init"
_ELF = b"\x7fELF"


class FileTarget:
    """The engine objects among some files, all for one machine."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """`paths`: files, which must be ELF files, and folders, of which those are taken that are.
        TargetError, naming the file, when one cannot be read, is for a machine that profinfer
        knows nothing of or for another than the rest; or when they hold no ggml or llama.cpp code,
        or that of two engines.
        """
        self.objects: list[EngineObject] = []
        others = []
        seen: set[tuple[str, int]] = set()
        for path in _files(paths):
            item = file_object(path)
            identity = (item.elf.build_id, item.elf.size)
            if not is_engine(item.elf):
                others.append(path.name)
                item.elf.close()
            elif identity not in seen:
                # A wheel may hold one library under two names.
                seen.add(identity)
                self.objects.append(item)
        if not self.objects:
            names = ", ".join(others[:4]) or ", ".join(map(str, paths)) or "no file"
            raise TargetError(
                f"no ggml or llama.cpp code in {names}",
                "give the libraries that define ggml's functions: libggml-base, libggml-cpu*,"
                " libllama, or the one that holds them all",
            )
        self.machine = self.objects[0].elf.machine
        for item in self.objects:
            if item.elf.machine not in RANKS:
                raise TargetError(
                    f"{item.path} is for {item.elf.machine}, and profinfer records only"
                    f" {' and '.join(RANKS)}"
                )
            if item.elf.machine != self.machine:
                raise TargetError(
                    f"{item.path} is for {item.elf.machine}, but {self.objects[0].path} for"
                    f" {self.machine}",
                    "one plan is for one machine",
                )
        # Struct layouts are those of one library: variants of a backend share them, engines do not.
        homes = [item.path for item in self.objects if _HOME in item.elf.symbols]
        if len(homes) > 1:
            raise TargetError(
                f"{homes[0]} and {homes[1]} both define {_HOME}: they are two engines",
                "give the files of one engine",
            )

    @property
    def is_foreign(self) -> bool:
        """Whether another machine than this one runs it."""
        return not is_native(self.machine)

    def plan(self, level: str, *, symbols_only: bool = False, cost: HitCost | None = None) -> Plan:
        """The probes, where kinds of instructions rank first or, with `cost`, cost least; see
        `make_plan`."""
        placer = Placer(cost, 0, symbols_only=symbols_only, ranks=RANKS[self.machine])
        return make_plan(self.objects, level, placer)

    def layout(self, sysroot: Path | None = None) -> Layout:
        """The layout by experiment, as the files' owner (see `describe`). `sysroot`: as for
        `find_root`."""
        root = find_root(self.machine, sysroot)
        libraries = [item.library for item in self.objects]
        status = libraries[0].stat()
        return describe(libraries, uid=status.st_uid, gid=status.st_gid, root=root)


def _files(paths: Iterable[Path]) -> list[Path]:
    found = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        try:
            inside = sorted(entry for entry in path.iterdir() if entry.is_file())
            found += [entry for entry in inside if _is_elf(entry)]
        except OSError as error:
            raise TargetError(f"cannot read {path}: {error.strerror}") from None
    return list(dict.fromkeys(found))


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF
