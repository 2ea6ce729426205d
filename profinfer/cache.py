"""A private cache: what is found in it was written by this user, and nobody else can read it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path


def cache_file(kind: str, key: str) -> Path | None:
    """Where the answer to `key` is kept, or None when there is no private place."""
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
    return directory / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def load(path: Path, limit: int) -> bytes | None:
    """At most limit + 1 bytes of a kept answer, or None when there is none that is ours."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return None
        return stream.read(limit + 1)


def store(path: Path, text: str) -> None:
    """Keep an answer; a cache that cannot be written only costs time."""
    with contextlib.suppress(OSError):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with open(descriptor, "w", encoding="ascii") as stream:
                stream.write(text)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
