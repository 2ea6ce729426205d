"""A private cache: what is found in it was written by this user, and nobody else can read it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path


def private_folder(kind: str) -> Path | None:
    """$XDG_CACHE_HOME/profinfer/KIND or ~/.cache/profinfer/KIND, made if need be. None where it is
    a symbolic link, belongs to somebody else or is open to others, or cannot be made."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:
        return None
    directory = root / "profinfer" / kind
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        status = os.lstat(directory)
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077 == 0
    if not private or status.st_uid != os.geteuid():
        return None
    return directory


def cache_file(kind: str, key: str) -> Path | None:
    """Where the answer to `key` is kept, or None when there is no private place."""
    directory = private_folder(kind)
    return directory and directory / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def load(path: Path, limit: int) -> bytes | None:
    """At most limit + 1 bytes of a kept answer, or None when there is none that is ours alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        is_ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
        if not stat.S_ISREG(status.st_mode) or not is_ours:
            return None
        return stream.read(limit + 1)


def store(path: Path, answer: bytes) -> None:
    """Keep an answer; a cache that cannot be written only costs time."""
    with contextlib.suppress(OSError):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with open(descriptor, "wb") as stream:
                stream.write(answer)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
