"""A file that we write as root, among strangers: appended to, never half a packet."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from profinfer.errors import OutputError


class Output:
    """A file that only grows; OutputError, naming it, when it cannot."""

    def __init__(self, path: Path, *, force: bool, mode: int = 0o644) -> None:
        self.path = path
        self.size = 0
        self._fresh = not os.path.exists(path)  # where its name is too long, opening it says so
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


class Lent(Output):
    """A file that another process writes, which has been given its descriptor."""

    def __init__(self, path: Path, *, force: bool, mode: int) -> None:
        super().__init__(path, force=force, mode=mode)
        self._before = self._stamp()

    def _stamp(self) -> tuple[int, int]:
        status = os.fstat(self._fd)
        return status.st_size, status.st_mtime_ns

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def look(self) -> None:
        """Takes the size that it has; 0 when nothing has been written yet."""
        now = self._stamp()
        self.size = 0 if now == self._before else now[0]

    def close(self) -> None:
        """As above."""
        if self._fd >= 0:
            self.look()
        super().close()


class Replacement(Output):
    """A file that takes its name when it is whole: until then, what has that name stays there."""

    def __init__(self, path: Path, *, force: bool) -> None:
        self._final = path
        self._force = force
        self._check()
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            super().__init__(part, force=False)
        except OutputError as error:
            raise OutputError(error.message.replace(str(part), str(path)), error.hint) from None
        self._part = part

    def _check(self) -> None:
        """What has the name must be a file, and meant to be replaced."""
        try:
            mode = self._final.lstat().st_mode
        except OSError:
            return
        if not stat.S_ISREG(mode):
            kind = "is a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
            raise OutputError(f"cannot write {self._final}: {kind}")
        if not self._force:
            raise OutputError(f"{self._final} exists", "--force overwrites it")

    def finish(self) -> None:
        """Gives the file its name."""
        self._check()
        os.replace(self._part, self._final)
        self.path = self._final

    def append(self, data: bytes) -> None:
        """Writes all of it, or raises: then nothing will be left of the file."""
        try:
            super().append(data)
        except OutputError as error:
            raise OutputError(
                error.message.replace(str(self._part), str(self._final)), "nothing was written"
            ) from None

    def close(self) -> None:
        """Closes the file; one that has not got its name is removed."""
        if self.path != self._final:
            self._part.unlink(missing_ok=True)
        super().close()


def _caller() -> tuple[int, int] | None:
    """User and group behind sudo."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    is_sudo = os.geteuid() == 0 and uid.isdigit() and gid.isdigit()
    return (int(uid), int(gid)) if is_sudo else None


def give_to_caller(output: Output) -> None:
    """Makes the user behind sudo the owner of what root has written for them."""
    if caller := _caller():
        output.give_to(*caller)


def write_whole(path: Path, data: bytes, *, force: bool) -> None:
    """Writes a file that is there whole or not at all, of the user behind sudo."""
    output = Replacement(path, force=force)
    try:
        give_to_caller(output)
        output.append(data)
        output.finish()
    finally:
        output.close()


def make_folder(path: Path) -> None:
    """Makes a folder, of the user behind sudo, unless it is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileExistsError:
            if not path.is_dir():
                raise
            return
        if caller := _caller():
            folder = os.open(path, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchown(folder, *caller)
            finally:
                os.close(folder)
    except OSError as error:
        raise OutputError(f"cannot make {path}: {error.strerror}") from None
