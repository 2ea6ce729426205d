"""A target as files: an engine's libraries, or copies of them, perhaps for another machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
        found = ((path, file_object(path)) for path in _files(paths))
        self._take(_engine_objects(found, paths))

    @classmethod
    def of(cls, objects: list[EngineObject]) -> FileTarget:
        """Of files that have been read. TargetError as above."""
        made = cls.__new__(cls)
        made._take(objects)
        return made

    def _take(self, objects: list[EngineObject]) -> None:
        self.objects = objects
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

    def plan(self, level: str, *, cost: HitCost | None = None) -> Plan:
        """The probes, where kinds of instructions rank first or, with `cost`, cost least; see
        `make_plan`."""
        placer = Placer(cost, 0, ranks=RANKS[self.machine])
        return make_plan(self.objects, level, placer)

    def layout(self, sysroot: Path | None = None) -> Layout:
        """The layout by experiment, as the files' owner (see `describe`). `sysroot`: as for
        `find_root`."""
        root = find_root(self.machine, sysroot)
        libraries = [item.library for item in self.objects]
        status = libraries[0].stat()
        return describe(libraries, uid=status.st_uid, gid=status.st_gid, root=root)


def variants(paths: Sequence[Path]) -> tuple[list[FileTarget], list[str]]:
    """The builds of an engine among files and folders, and folders in these; and what was passed
    over. Each file with ggml_init is a build, with what lies beside it. TargetError when there is
    none."""
    skipped: list[str] = []
    try:
        objects = _engine_objects(_sound(_files(paths, deep=True), skipped), paths)
    except TargetError:
        if skipped:
            raise TargetError(skipped[0]) from None
        raise
    # Those of this machine, if there are any.
    wanted = next((x.elf.machine for x in objects if is_native(x.elf.machine)), None)
    wanted = wanted or objects[0].elf.machine
    skipped += [f"{x.path} is for {x.elf.machine}" for x in objects if x.elf.machine != wanted]
    builds = _builds([item for item in objects if item.elf.machine == wanted])
    return [FileTarget.of(build) for build in builds], skipped


def _sound(paths: Iterable[Path], skipped: list[str]) -> Iterator[tuple[Path, EngineObject]]:
    """Those that can be read, for machines that profinfer knows; why not the others."""
    for path in paths:
        try:
            item = file_object(path)
            is_engine(item.elf)
        except TargetError as error:
            skipped.append(error.message)
            continue
        if item.elf.machine in RANKS:
            yield path, item
        else:
            skipped.append(f"{path} is for {item.elf.machine}")
            item.elf.close()


def _builds(objects: list[EngineObject]) -> list[list[EngineObject]]:
    homes = [item for item in objects if _HOME in item.elf.symbols]
    if len(homes) <= 1:
        return [objects]
    folders = {home.library.parent for home in homes}
    builds = []
    for home in homes:
        beside = {home.library.parent} | {x.library.parent for x in objects} - folders
        builds.append(
            [x for x in objects if x is home or (x not in homes and x.library.parent in beside)]
        )
    return builds


def _engine_objects(
    found: Iterable[tuple[Path, EngineObject]], paths: Sequence[Path]
) -> list[EngineObject]:
    objects = []
    others = []
    seen: set[tuple[str, int, str]] = set()
    for path, item in found:
        identity = (item.elf.build_id, item.elf.size, item.elf.machine)
        if not is_engine(item.elf):
            others.append(path.name)
            item.elf.close()
        elif identity not in seen:
            # A wheel may hold one library under two names.
            seen.add(identity)
            objects.append(item)
    if not objects:
        names = ", ".join(others[:4]) or ", ".join(map(str, paths)) or "no file"
        raise TargetError(
            f"no ggml or llama.cpp code in {names}",
            "give the libraries that define ggml's functions: libggml-base, libggml-cpu*,"
            " libllama, or the one that holds them all",
        )
    return objects


def _files(paths: Iterable[Path], *, deep: bool = False) -> list[Path]:
    found = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        try:
            entries = path.rglob("*") if deep else path.iterdir()
            inside = sorted(entry for entry in entries if entry.is_file())
            found += [entry for entry in inside if _is_elf(entry)]
        except OSError as error:
            raise TargetError(f"cannot read {path}: {error.strerror}") from None
    return list(dict.fromkeys(found))


def _is_elf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_ELF)) == _ELF
    except OSError:  # a link into /proc, for instance
        return False
