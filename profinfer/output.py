"""A file that we write as root, among strangers: appended to, never half a packet."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from profinfer.errors import OutputError


class Output:
    """A file that only grows; OutputError, naming it, when it cannot."""

    def __init__(self, path: Path, *, force: bool, mode: int = 0o644) -> None:
        self.path = path
        self.size = 0
        self._fresh = not path.exists()
        # Never follow a link that somebody may have put there: we are root. Nor wait for a pipe.
        flags = (
            os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_APPEND
        )
        # An empty file holds nothing to lose: a killed recorder leaves one.
        try:
            is_empty = stat.S_ISREG((found := path.lstat()).st_mode) and found.st_size == 0
        except OSError:
            is_empty = False
        try:
            self._fd = os.open(path, flags | (0 if force or is_empty else os.O_EXCL), mode)
        except FileExistsError:
            raise OutputError(f"{path} exists", "--force overwrites it") from None
        except OSError as error:
            reason = "is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise OutputError(f"cannot write {path}: {reason}") from None
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise OutputError(f"cannot write {path}: not a regular file")

    def append(self, data: bytes) -> None:
        """Writes all of it, or cuts the file back to what was whole before and raises."""
        view = memoryview(data)
        try:
            if self.size == 0:
                # Not before there is something to put in the place of what was there.
                os.ftruncate(self._fd, 0)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            os.ftruncate(self._fd, self.size)
            raise OutputError(
                f"cannot write {self.path}: {error.strerror}",
                f"everything up to here is readable ({self.size} bytes)",
            ) from None
        self.size += len(data)

    def give_to(self, uid: int, gid: int) -> None:
        """Changes the owner: the user behind sudo can then open the file."""
        os.fchown(self._fd, uid, gid)

    def is_same_file(self, path: Path) -> bool:
        """Whether a path leads to this very file."""
        try:
            return os.path.samestat(os.fstat(self._fd), path.stat())
        except OSError:
            return False

    @property
    def opened(self) -> Path:
        """A path to this very file, whatever its own path leads to meanwhile."""
        return Path(f"/proc/self/fd/{self._fd}")

    def remove(self) -> None:
        """Removes the file, unless something else has taken its place."""
        if self.is_same_file(self.path):
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file; one that we made and never wrote to is removed again."""
        if self._fd >= 0 and self.size == 0 and self._fresh:
            self.path.unlink(missing_ok=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
