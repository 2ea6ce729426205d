"""An initramfs: a cpio archive in the "newc" format that the kernel unpacks as its first root."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Link:
    """A symbolic link in a machine."""

    target: str


Content = Path | bytes | Link
"""A file of this machine, or what a file shall hold, or a link."""


def write_initramfs(output: Path, files: Mapping[str, Content]) -> None:
    """Archives `files` (absolute path in the machine -> content), each executable by anybody.

    Folders come by themselves. Uncompressed: a machine copies it faster than it unpacks.
    """
    with output.open("wb") as archive:
        folders = {parent for path in files for parent in PurePosixPath(path).parents}
        for folder in sorted(str(each) for each in folders if each.name):
            _write_entry(archive, folder, stat.S_IFDIR | 0o755, b"")
        for path, content in files.items():
            if isinstance(content, Link):
                _write_entry(archive, path, stat.S_IFLNK | 0o777, content.target.encode())
            else:
                data = content.read_bytes() if isinstance(content, Path) else content
                _write_entry(archive, path, stat.S_IFREG | 0o755, data)
        _write_entry(archive, TRAILER, 0, b"")


def _write_entry(archive: BinaryIO, path: str, mode: int, data: bytes) -> None:
    name = path.lstrip("/").encode() + b"\0"
    # inode, mode, uid, gid, links, time, size, four device numbers, length of the name, checksum
    fields = (archive.tell(), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    for part in (header + name, data):
        archive.write(part)
        archive.write(b"\0" * (-len(part) % 4))


def tree(folder: Path, below: str = "") -> Iterator[tuple[str, Content]]:
    """A folder's files and links with their places in a machine, below the folder `below`."""
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in sorted(names + links):
            path = Path(root) / name
            content = Link(os.readlink(path)) if path.is_symlink() else path
            yield f"{below}/{path.relative_to(folder)}", content
