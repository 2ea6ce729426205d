"""What the target's own ggml looks like, found by experiment with the target's own libraries.

No number of any ggml version is needed for that: a throw-away process loads the libraries,
makes tensors and graphs with values that occur nowhere else, and looks for them in memory. What
cannot be loaded is compared with known versions while it computes (inferred.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from profinfer import cache
from profinfer.binaries.elf import Elf
from profinfer.describing.layout import (
    FORMAT,
    MAX_JSON,
    BackendLayout,
    CgraphLayout,
    Layout,
    TensorLayout,
    TypeInfo,
    UbatchLayout,
)
from profinfer.describing.roots import Root, own_root, root_of
from profinfer.engine import target
from profinfer.errors import GraphNeeded, ProbeError, TargetError

__all__ = [
    "BackendLayout",
    "CgraphLayout",
    "Layout",
    "TensorLayout",
    "TypeInfo",
    "UbatchLayout",
    "describe",
    "describe_process",
]

_SECONDS = 20.0


def describe(
    objects: Sequence[Path],
    *,
    uid: int,
    gid: int,
    timeout: float = _SECONDS,
    root: Root | None = None,
) -> Layout:
    """The layout of the engine that these libraries make up together.

    `objects` are its files as this process can open them, `uid` and `gid` the target's owner,
    as whom they are loaded (see `layout_sandbox.ask`), `timeout` the seconds all experiments
    may take together, by an emulator ten times as many; `root` is where they are loaded. The answer
    is kept in a private cache and found there by build id.

    Raises TargetError when a file is no ELF file, or not for the root's processor; ProbeError when
    the libraries hold no ggml or cannot describe it. What is merely missing is None in the result,
    with the reason in its `notes`.
    """
    elves = [Elf(path) for path in dict.fromkeys(objects)]
    try:
        root = root or own_root()
        for elf in elves:
            if elf.machine != root.machine:
                raise TargetError(f"{elf.path} is for {elf.machine}, and here is {root.machine}")
        return _known([(elf, root.inside(elf.path)) for elf in elves], uid, gid, timeout, root)
    finally:
        for elf in elves:
            elf.close()


def describe_process(
    pid: int, objects: Sequence[target.EngineObject], arguments: Sequence[int] = ()
) -> Layout:
    """The same for a process that holds these, by its own loader in its own root. TargetError when
    it holds them no more; GraphNeeded when they cannot be loaded, until `arguments`, the first two
    of a function that the process gives a graph to, have told enough."""
    root = root_of(pid)
    files = [(item.elf, root.inside(_named(item))) for item in objects]
    # By another program, one of root's for instance, it may be somebody else's process by now, who
    # neither loads a stranger's libraries nor keeps their answers as those of his own.
    (uid, gid), mappings = target.owned_mappings(pid)
    mapped = {mapping.identity for mapping in mappings}
    if not mapped.issuperset(item.identity for item in objects):
        raise TargetError(f"process {pid} runs something else by now")
    try:
        return _known(files, uid, gid, _SECONDS, root)
    except GraphNeeded as error:
        return _inferred(pid, [elf for elf, _ in files], uid, root, arguments, error)


def _inferred(
    pid: int, elves: Sequence[Elf], uid: int, root: Root, arguments: Sequence[int],
    error: GraphNeeded,
) -> Layout:  # fmt: skip
    """What a process has told before, or tells now. `error`: why it is not described."""
    from profinfer.describing.inferred import infer, tables_of  # here: few need it

    # Files without a build id are known by their beginning: too little to believe others' numbers.
    has_id = all(elf.note_id for elf in elves)
    key = _cache_key(elves, uid, root.identity)
    place = cache.cache_file("inferred", key) if has_id else None
    found = _cached(place) if place else None
    if found is None:
        try:
            tables = tables_of(tuple(elves))
        except ProbeError as other:
            raise ProbeError(f"{error.message}; {other.message}", error.hint) from None
        if not arguments:
            raise error
        found = infer(pid, tables, arguments)
        if place:
            cache.store(place, found.to_json().encode())
    return found


def _named(item: target.EngineObject) -> Path:
    """The path by which the process knows a file, also where that leads to it no more."""
    if item.library == item.access:
        with suppress(OSError):
            return Path(os.readlink(item.access).removesuffix(" (deleted)"))
    return item.library


def _known(
    files: Sequence[tuple[Elf, str]], uid: int, gid: int, timeout: float, root: Root
) -> Layout:
    """The kept answer, or a new one, of files and the paths that they have in the root."""
    place = cache.cache_file("layout", _cache_key([elf for elf, _ in files], uid, root.identity))
    found = _cached(place) if place else None
    if found is None:
        from profinfer.describing.search import experiment  # here: once

        found, final = experiment(files, uid, gid, timeout, root)
        if place and final:
            cache.store(place, found.to_json().encode())
    return found


def _cache_key(elves: Sequence[Elf], uid: int, root: str = "") -> str:
    """The owner and a root that is not ours are part of it: a build id is easily forged, and one
    user's forgery must not answer for another's library."""
    head = " ".join([str(FORMAT), str(uid), root]).rstrip()
    return "\n".join([head, *(f"{elf.build_id} {elf.size}" for elf in elves)])


def _cached(path: Path) -> Layout | None:
    """The kept answer, or None when there is none that is ours and whole."""
    text = cache.load(path, MAX_JSON)
    if text is None:
        return None
    try:
        return Layout.from_json(text)
    except ProbeError:
        return None
