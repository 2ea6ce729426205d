"""What an engine's files say of themselves, read as data: nothing of theirs is executed."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from profinfer.binaries.elf import Elf
from profinfer.engine.returned import returned_string
from profinfer.engine.target import EngineObject, printable

_FAMILIES = (("llama.cpp", "llama_decode"), ("whisper.cpp", "whisper_full"))
"""And a function that each has; what has none of these is some other program with ggml."""
_VERSIONS = ("ggml_version", "ggml_commit", "llama_version", "llama_commit", "whisper_version")
"""Functions that return a string constant, also with C++ names."""
_VARIANT = re.compile(r"libggml-cpu-([a-z0-9_.]+?)(?:-[0-9a-f]{8})?\.so")
_HASH = re.compile(r"[0-9a-f]{8}")
_PACKAGE = re.compile(r"(.+)-([^-]+)\.dist-info")
_ON_DISK = {
    "deleted": "deleted on disk: all this is of the file that the process runs",
    "replaced": "replaced on disk: all this is of the file that the process runs, not of the one"
    " that is there now",
}
_ET_EXEC = 2
_DT_FLAGS_1, _DF_1_PIE = 0x6FFFFFFB, 0x08000000
_UP = 6
_MAX_TEXT = 1 << 20
_MAX_COMPILERS = 8


@dataclass(frozen=True)
class FileIdentity:
    """Of one file."""

    path: str
    build_id: str
    build_id_is_hash: bool
    """The linker left none: a hash of the file's beginning stands for it."""
    kind: str
    functions: int
    is_stripped: bool
    """Without .symtab: functions that it does not export have no names."""
    has_debug: bool
    compilers: tuple[str, ...]
    """As .comment has them; none where that was removed."""
    variant: str | None
    """Of a CPU backend that is built several times: for which processors."""
    on_disk: str | None
    """deleted or replaced, where the path no longer leads to the file that runs."""


@dataclass(frozen=True)
class Identity:
    """Of one engine."""

    family: str
    versions: dict[str, str | None]
    """By function that returns it; None where it cannot be read."""
    why_no_version: str | None
    """When not one is known."""
    package: str | None
    """Whose metadata lie above the files."""
    files: tuple[FileIdentity, ...]

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return asdict(self)

    def name(self) -> str:
        """Family and versions, in a line."""
        known = [
            f"{name.removesuffix('_version').replace('_', ' ')} {text}"
            for name, text in self.versions.items()
            if text
        ]
        said = [self.family, *known]
        said += [f"version unknown: {self.why_no_version}"] if self.why_no_version else []
        return ", ".join(said)

    def describe(self) -> list[str]:
        """Lines for people: what it is, then each of its files."""
        lines = [self.name(), *([f"package {self.package}"] if self.package else [])]
        for file in self.files:
            variant = f", variant {file.variant}" if file.variant else ""
            lines += [
                file.path,
                *([f"  {_ON_DISK[file.on_disk]}"] if file.on_disk else []),
                f"  {file.kind}{variant}, "
                + (
                    f"stripped ({file.functions:,} exported functions)"
                    if file.is_stripped
                    else f"not stripped ({file.functions:,} functions)"
                )
                + (", with debug information" if file.has_debug else ""),
                f"  build id {file.build_id}"
                + (" (none: a hash of the file)" if file.build_id_is_hash else ""),
            ]
            made = "; ".join(file.compilers)
            lines.append(f"  compiled by {made or 'nobody that it names (no .comment)'}")
        return lines


def identify(objects: Sequence[EngineObject]) -> Identity:
    """Of an engine's files. TargetError when one is damaged."""
    names = {name for item in objects for name in _versions_of(item.elf)}
    family = next(
        (family for family, mark in _FAMILIES if any(mark in x.elf.symbols for x in objects)),
        "another program with ggml",
    )
    versions = {
        name: next((text for x in objects if (text := _version(x.elf, name))), None)
        for name in _VERSIONS
        if name in names
    }
    why = None
    if not any(versions.values()):
        which = " and ".join(versions)
        why = f"{which} returns no constant" if which else f"no file has {_VERSIONS[0]}"
    packages = (_package(x.library) for x in objects)
    return Identity(
        family, versions, why, next((x for x in packages if x), None),
        tuple(_file(item) for item in objects),
    )  # fmt: skip


def _file(item: EngineObject) -> FileIdentity:
    elf = item.elf
    match = _VARIANT.search(Path(item.path).name)
    has_name = match and not _HASH.fullmatch(match[1])
    return FileIdentity(
        item.path, elf.build_id, not elf.note_id, _kind(elf), len(elf.symbols),
        not elf.section(".symtab"), bool(elf.section(".debug_info")), _compilers(elf),
        match[1] if match and has_name else None, item.on_disk,
    )  # fmt: skip


def _kind(elf: Elf) -> str:
    if elf.interp is not None:
        return "executable" if elf.type == _ET_EXEC else "position-independent executable"
    if elf.type == _ET_EXEC:
        return "static executable"
    is_program = elf.dynamic.get(_DT_FLAGS_1, 0) & _DF_1_PIE
    return "static position-independent executable" if is_program else "shared library"


def _compilers(elf: Elf) -> tuple[str, ...]:
    words = dict.fromkeys(elf.section_bytes(".comment", _MAX_TEXT).split(b"\0"))
    texts = (printable(word.decode("utf-8", "replace")) for word in words if word)
    return tuple(list(texts)[:_MAX_COMPILERS])


def _versions_of(elf: Elf) -> Iterator[str]:
    return (name for name in _VERSIONS if elf.symbols.whole(_either(name)))


def _either(name: str) -> str:
    """A C function of that name, or one of C++ without arguments."""
    return rf"{name}|_Z{len(name)}{name}v"


def _version(elf: Elf, name: str) -> str | None:
    for symbol in elf.symbols.whole(_either(name)):
        if text := returned_string(elf, symbol):
            return None if text == "unknown" else printable(text)
    return None


# ---- Packages


def _package(library: Path) -> str | None:
    """Name and version of the Python or npm package that a file lies in."""
    folders = list(library.parents)[:_UP]
    for folder in folders:
        for find in (_of_wheel, _of_npm):
            if found := find(folder, library):
                return found
    return None


def _of_wheel(folder: Path, library: Path) -> str | None:
    try:
        infos = sorted(x for x in folder.iterdir() if x.name.endswith(".dist-info"))
    except OSError:
        return None
    wanted = str(library.relative_to(folder))
    for info in infos:
        match = _PACKAGE.fullmatch(info.name)
        lines = _read(info / "RECORD").splitlines() if match else []
        if match and any(line.startswith(f"{wanted},") for line in lines):
            return printable(f"{match[1]} {match[2]} (Python)")
    return None


def _of_npm(folder: Path, library: Path) -> str | None:
    del library
    try:
        said = json.loads(_read(folder / "package.json"))
        return printable(f"{said['name']} {said['version']} (npm)")
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _open(name: str, flags: int) -> int:
    """No link is followed, and no pipe waited for."""
    return os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _read(path: Path) -> str:
    """A small file of a stranger's; "" when it is none."""
    try:
        with open(path, "rb", opener=_open) as file:
            is_plain = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return file.read(_MAX_TEXT).decode("utf-8", "replace") if is_plain else ""
    except OSError:
        return ""
