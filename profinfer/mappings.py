"""What files a process has mapped where, as that changes, and which of them are GGUF models."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from profinfer.capture import Frame, FrameKind, json_frame

_MAGIC = b"GGUF"
_MAX_MODELS = 64


@dataclass(frozen=True)
class FileMapping:
    """A part of a file at addresses [start, end)."""

    start: int
    end: int
    offset: int
    """Of `start` in the file, in bytes."""
    device: int
    """As the kernel numbers it: major << 20 | minor."""
    inode: int
    path: str
    """As the target sees it; display only."""


def file_mappings(pid: int) -> list[FileMapping] | None:
    """Every mapping of a file, in order of address; None when the process has ended."""
    try:
        text = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError:
        return None
    found = []
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or fields[4] == "0":
            continue
        start, end = (int(x, 16) for x in fields[0].split("-"))
        major, minor = (int(x, 16) for x in fields[3].split(":"))
        found.append(
            FileMapping(
                start, end, int(fields[2], 16), major << 20 | minor, int(fields[4]),
                fields[5].removesuffix(" (deleted)"),
            )
        )  # fmt: skip
    # A process that has ended, but is not reaped, has none.
    return found or None


@dataclass(frozen=True)
class Model:
    """A GGUF file that the target has mapped, held open."""

    device: int
    inode: int
    path: str
    fd: int


class Mappings:
    """Looks at a process's mappings from time to time; `close` lets go of the models."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._known: set[FileMapping] = set()
        self._looked: set[tuple[int, int]] = set()
        self.models: list[Model] = []

    def look(self, now: int) -> list[Frame]:
        """A MAPPINGS frame: what has changed since the last look; none when the process has ended.
        `now` in BOOTTIME ns, taken before the call."""
        found = file_mappings(self._pid)
        if found is None:
            return []
        fresh = [mapping for mapping in found if mapping not in self._known]
        gone = self._known.difference(found)
        for mapping in fresh:
            self._examine(mapping)
        self._known = set(found)
        content = {
            "new": [vars(mapping) for mapping in fresh],
            "gone": [vars(mapping) for mapping in sorted(gone, key=lambda m: m.start)],
        }
        return [json_frame(FrameKind.MAPPINGS, now, content)]

    def _examine(self, mapping: FileMapping) -> None:
        """Opens a file that begins like a model: the target may be gone when it is read."""
        if (mapping.device, mapping.inode) in self._looked or len(self.models) >= _MAX_MODELS:
            return
        self._looked.add((mapping.device, mapping.inode))
        link = f"/proc/{self._pid}/map_files/{mapping.start:x}-{mapping.end:x}"
        try:
            # Opening a device may do something to it.
            if not stat.S_ISREG(os.stat(link).st_mode):
                return
            fd = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return
        try:
            is_model = os.pread(fd, len(_MAGIC), 0) == _MAGIC
        except OSError:
            is_model = False
        if is_model:
            self.models.append(Model(mapping.device, mapping.inode, mapping.path, fd))
        else:
            os.close(fd)

    def model_mappings(self) -> Iterator[FileMapping]:
        """Where models are mapped, as of the last look."""
        files = {(model.device, model.inode) for model in self.models}
        return (m for m in sorted(self._known, key=lambda m: m.start)
                if (m.device, m.inode) in files)  # fmt: skip

    def close(self) -> None:
        """Lets go of the models."""
        for model in self.models:
            os.close(model.fd)
        self.models.clear()
