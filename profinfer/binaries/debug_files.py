"""A separate file with the symbols that a file was stripped of, where this machine has one.

It is known by the build id, or by the name and the sum that were left in its place; nothing is
fetched. It has to belong to root, to whom the stripped file belongs, or to us.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from profinfer.binaries.elf import Elf
from profinfer.errors import TargetError

_DEBUG = Path("/usr/lib/debug")
_MAX_LINK = 4096
_MAX_SUMMED = 1 << 30
_CHUNK = 1 << 20


def debug_file(elf: Elf) -> Elf | None:
    """That file; None when there is none, or it is damaged."""
    owners = {0, os.geteuid(), os.fstat(elf.descriptor).st_uid}
    for path, checksum in _candidates(elf):
        try:
            found = Elf(path)
            is_it = found.note_id == elf.note_id if elf.note_id else _sum(found) == checksum
            if is_it and os.fstat(found.descriptor).st_uid in owners and len(found.symbols):
                return found
        except TargetError:
            continue
    return None


def _candidates(elf: Elf) -> Iterator[tuple[Path, int]]:
    """(path, the sum that it must have without a build id)."""
    build_id = elf.note_id
    if build_id:
        yield _DEBUG / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug", 0
    section = elf.section(".gnu_debuglink")
    if section and 8 <= section.size <= _MAX_LINK:
        link = elf.bytes_at(section.offset, section.size)
        name = Path(os.fsdecode(link.partition(b"\0")[0])).name
        folder = Path(os.path.realpath(elf.path)).parent
        for place in (folder, folder / ".debug", _DEBUG / folder.relative_to("/")):
            if name:
                yield place / name, int.from_bytes(link[-4:], "little")
    if build_id:
        for cache in _caches():
            yield cache / build_id / "debuginfo", 0


def _caches() -> Iterator[Path]:
    """Where debuginfod's clients keep what they have fetched."""
    if kept := os.environ.get("DEBUGINFOD_CACHE_PATH"):
        yield Path(kept)
    home = Path(os.environ.get("HOME") or "/root")
    yield Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "debuginfod_client"
    yield home / ".debuginfod_client_cache"


def _sum(elf: Elf) -> int | None:
    total = 0
    if elf.size > _MAX_SUMMED:
        return None
    for at in range(0, elf.size, _CHUNK):
        total = zlib.crc32(elf.bytes_at(at, _CHUNK), total)
    return total
