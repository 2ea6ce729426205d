"""An initramfs: a cpio archive in the "newc" format that the kernel unpacks as its first root."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

TRAILER = "TRAILER!!!"


def write_initramfs(output: Path, files: dict[str, Path | bytes]) -> None:
    """Archives `files` (absolute path in the machine -> content), each executable by anybody.

    Folders come by themselves. Uncompressed: a machine copies it faster than it unpacks.
    """
    with output.open("wb") as archive:
        folders = {parent for path in files for parent in PurePosixPath(path).parents}
        for folder in sorted(str(each) for each in folders if each.name):
            _write_entry(archive, folder, stat.S_IFDIR | 0o755, b"")
        for path, content in files.items():
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


def folder_files(folder: Path, below: str) -> Iterator[tuple[str, Path]]:
    """Every regular file of a folder with its place in a machine, below the folder `below`."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield f"{below}/{path.relative_to(folder)}", path
