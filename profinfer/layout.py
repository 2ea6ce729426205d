"""What the target's own ggml looks like, found by experiment with the target's own libraries.

No number of any ggml version is written down here: a throw-away process loads the libraries,
makes tensors and graphs with values that occur nowhere else, and looks for them in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from profinfer import cache
from profinfer.elf import Elf
from profinfer.emulator import Emulator, is_native
from profinfer.errors import ProbeError, TargetError
from profinfer.layout_data import (
    FORMAT,
    MAX_JSON,
    BackendLayout,
    CgraphLayout,
    Layout,
    TensorLayout,
    TypeInfo,
    UbatchLayout,
)

__all__ = [
    "BackendLayout",
    "CgraphLayout",
    "Layout",
    "TensorLayout",
    "TypeInfo",
    "UbatchLayout",
    "describe",
]

LibraryPath = Path


def describe(
    objects: Sequence[LibraryPath],
    *,
    uid: int,
    gid: int,
    timeout: float = 20,
    emulator: Emulator | None = None,
) -> Layout:
    """The layout of the engine that these libraries make up together.

    `objects` are its files as this process can open them, `uid` and `gid` the target's owner,
    as whom they are loaded (see `layout_sandbox.ask`), `timeout` the seconds all experiments
    may take together, by `emulator` ten times as many. The answer is kept in a private cache and
    found there by build id.

    Raises TargetError when a file is no ELF file, or for another processor and there is no
    emulator; ProbeError when the libraries hold no ggml or cannot describe it. What is merely
    missing is None in the result, with the reason in its `notes`.
    """
    elves = [Elf(path) for path in dict.fromkeys(objects)]
    try:
        for elf in elves:
            if emulator is None and not is_native(elf.machine):
                raise TargetError(f"{elf.path} is for {elf.machine}, which this machine is not")
        place = cache.cache_file("layout", _cache_key(elves, uid))
        found = _cached(place) if place else None
        if found is None:
            from profinfer.layout_search import experiment  # here: it takes long, and once

            found, final = experiment(elves, uid, gid, timeout, emulator)
            if place and final:
                cache.store(place, found.to_json())
        return found
    finally:
        for elf in elves:
            elf.close()


def _cache_key(elves: Iterable[Elf], uid: int) -> str:
    """The owner is part of it: a build id is easily forged, and one user's forgery must not answer
    for another's library."""
    return "\n".join([f"{FORMAT} {uid}", *(f"{elf.build_id} {elf.size}" for elf in elves)])


def _cached(path: Path) -> Layout | None:
    """The kept answer, or None when there is none that is ours and whole."""
    text = cache.load(path, MAX_JSON)
    if text is None:
        return None
    try:
        return Layout.from_json(text)
    except ProbeError:
        return None
