"""A native `trace_processor_shell`, spoken to over its standard input and output."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path

from profinfer.errors import TraceProcessorError
from profinfer.trace_processor import rpc

_READ_BYTES = 1 << 20
_LOG_BYTES = 2000


class ShellTransport:
    """A child process of its own, without a TCP port that others could reach.

    Raises `TraceProcessorError` naming `path` when it cannot be started.
    """

    chunk_bytes = 4 << 20

    def __init__(self, path: Path) -> None:
        self.kind = str(path)
        self._dead = ""
        # A file, because a full pipe that nobody reads would stop the child.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        try:
            # A session of its own keeps Ctrl-C in the terminal for us alone.
            self._process = subprocess.Popen(
                [str(path), "--stdiod"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise TraceProcessorError(f"cannot run {path}: {error.strerror}") from None
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._stdin = self._process.stdin.fileno()
        self._stdout = self._process.stdout.fileno()
        os.set_blocking(self._stdin, False)

    def exchange(
        self, *parts: bytes | bytearray | memoryview, until_last_batch: bool, timeout: float | None
    ) -> list[bytes]:
        """See `rpc.Transport`."""
        if self._dead:
            raise TraceProcessorError(f"this Trace Processor has ended: {self._dead}")
        deadline = None if timeout is None else time.monotonic() + timeout
        replies: list[bytes] = []
        stream = bytearray()
        try:
            for part in parts:
                self._send(memoryview(part).cast("B"), deadline)
            while not replies or (until_last_batch and not rpc.ends_query(replies[-1])):
                self._wait([self._stdout], [], deadline)
                data = os.read(self._stdout, _READ_BYTES)
                if not data:
                    raise BrokenPipeError
                stream += data
                replies += rpc.unframe(stream)
        except TimeoutError:
            self._kill(f"stopped after {timeout:g} s")
            raise TraceProcessorError(
                f"{self.kind} was stopped after {timeout:g} s", "allow it more time"
            ) from None
        except (OSError, ValueError, IndexError) as error:
            raise self._death(error) from None
        except BaseException:
            self._kill("interrupted")
            raise
        return replies

    def _send(self, view: memoryview, deadline: float | None) -> None:
        while len(view):
            self._wait([], [self._stdin], deadline)
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._stdin, view) :]

    @staticmethod
    def _wait(readers: list[int], writers: list[int], deadline: float | None) -> None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not any(select.select(readers, writers, [], left)):
            raise TimeoutError

    def _death(self, error: Exception) -> TraceProcessorError:
        # A pipe breaks a moment before the child can be waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        status = self._process.poll()
        if status is None:
            why = f"it does not speak Trace Processor's protocol ({error})"
        else:
            why = f"signal {-status}" if status < 0 else f"exit status {status}"
        self._log.seek(0)
        text = self._log.read().decode("utf-8", "replace").strip()[-_LOG_BYTES:]
        self._kill(why)
        last = text.splitlines()[-1] if text else ""
        return TraceProcessorError(
            f"{self.kind} is no Trace Processor that can be used: {why}",
            f"it said: {last}" if last else "check that this file is a trace_processor_shell",
        )

    def _kill(self, why: str) -> None:
        self._dead = self._dead or why
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """See `rpc.Transport`."""
        if self._log.closed:
            return
        self._kill("closed")
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()
