"""What files a process has mapped where, as that changes, and which of them are GGUF models."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from profinfer.capture import Frame, FrameKind, json_frame
from profinfer.layout_data import clean

_MAGIC = b"GGUF"
_MAX_MODELS = 256
"""Large ones come in 163 parts. As many files are held open."""


@dataclass(frozen=True)
class Mapping:
    """Memory at addresses [start, end): a part of a file, or of none (device and inode 0)."""

    start: int
    end: int
    offset: int
    """Of `start` in the file, in bytes."""
    device: int
    """As the kernel numbers it: major << 20 | minor."""
    inode: int
    path: str
    """As the target sees it, escaped; display only."""


def mappings_in(listing: bytes) -> list[Mapping]:
    """Every mapping of a process, in order of address, from its /proc/PID/maps."""
    found = []
    for line in listing.decode(errors="replace").split("\n")[:-1]:
        span, _, offset, place, inode, *path = line.split(maxsplit=5)
        start, end = (int(x, 16) for x in span.split("-"))
        major, minor = (int(x, 16) for x in place.split(":"))
        device = major << 20 | minor
        name = path[0].removesuffix(" (deleted)") if path and inode != "0" else ""
        name = name if name.isprintable() else clean(name, len(name))
        found.append(Mapping(start, end, int(offset, 16), device, int(inode), name))
    return found


def _overlays(pid: int) -> set[int]:
    """Devices of the overlay file systems that a process sees."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_bytes().split(b"\n")
    except OSError:
        return set()
    places = [line.split()[2] for line in lines if b" - overlay " in line]
    return {int(a) << 20 | int(b) for a, b in (place.split(b":") for place in places)}


@dataclass(frozen=True)
class Model:
    """A GGUF file that the target has mapped, held open."""

    device: int
    inode: int
    path: str
    fd: int | None
    """None when it could not be held open, for the reason in `problem`."""
    problem: str = ""
    is_overlaid: bool = False
    """Whether it lies on an overlay file system, as those of containers do: mappings then bear its
    number, and reads that of the file below it."""


class Mappings:
    """Looks at a process's mappings from time to time; `close` lets go of the models."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._listing = b""
        self._known: set[Mapping] = set()
        self.models: list[Model] = []

    def look(self, now: int) -> list[Frame]:
        """A MAPPINGS frame: what has changed since the last look; none when the process has ended.
        `now` in BOOTTIME ns, taken before the call."""
        try:
            listing = Path(f"/proc/{self._pid}/maps").read_bytes()
        except OSError:
            return []
        # A process that has ended, but is not reaped, has none.
        if not listing:
            return []
        if listing == self._listing:
            return [json_frame(FrameKind.MAPPINGS, now, {"new": [], "gone": []})]
        self._listing = listing
        found = mappings_in(listing)
        fresh = [mapping for mapping in found if mapping not in self._known]
        gone = self._known.difference(found)
        # A file that is held open keeps its number; any other may have been another one's before.
        files = {(m.device, m.inode): m for m in reversed(fresh) if m.inode}
        for model in self.models:
            files.pop((model.device, model.inode), None)
        for mapping in files.values():
            self._examine(mapping)
        self._known = set(found)
        content = {
            "new": [vars(mapping) for mapping in fresh],
            "gone": [vars(mapping) for mapping in sorted(gone, key=lambda m: m.start)],
        }
        return [json_frame(FrameKind.MAPPINGS, now, content)]

    def _examine(self, mapping: Mapping) -> None:
        """Opens a file that begins like a model: the target may be gone when it is read."""
        link = f"/proc/{self._pid}/map_files/{mapping.start:x}-{mapping.end:x}"
        fd = None
        try:
            # Opening a device may do something to it.
            if not stat.S_ISREG(os.stat(link).st_mode):
                return
            fd = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            is_model = os.pread(fd, len(_MAGIC), 0) == _MAGIC
        except OSError as error:
            if mapping.path.endswith(".gguf") and not isinstance(error, FileNotFoundError):
                self._add(mapping, None, f"cannot be opened: {error.strerror}")
            is_model = False
        if not is_model:
            if fd is not None:
                os.close(fd)
        elif sum(model.fd is not None for model in self.models) < _MAX_MODELS:
            self._add(mapping, fd)
        elif fd is not None:
            os.close(fd)
            self._add(mapping, None, f"only {_MAX_MODELS} models are looked into")

    def _add(self, mapping: Mapping, fd: int | None, problem: str = "") -> None:
        self.models.append(
            Model(
                mapping.device, mapping.inode, mapping.path, fd, problem,
                mapping.device in _overlays(self._pid),
            )
        )  # fmt: skip

    def mappings_of_models(self) -> Iterator[Mapping]:
        """Where models are mapped, as of the last look."""
        files = {(model.device, model.inode) for model in self.models}
        return (m for m in sorted(self._known, key=lambda m: m.start)
                if (m.device, m.inode) in files)  # fmt: skip

    def close(self) -> None:
        """Lets go of the models."""
        for model in self.models:
            if model.fd is not None:
                os.close(model.fd)
        self.models.clear()
