"""Compiled WebAssembly modules kept between runs.

Compiling Trace Processor takes seconds; an ahead-of-time image of it maps in hundredths. Such
an image is native code that wasmtime runs without verifying, so it is only taken from a
directory that nobody else can write to, and only when the digest in front of it is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import stat
import tempfile
from importlib import metadata
from pathlib import Path

import wasmtime

_DIGEST_BYTES = hashlib.sha256().digest_size


def cache_dir() -> Path | None:
    """Return the private cache directory, made if need be, or None when there cannot be one.

    It is `$XDG_CACHE_HOME/profinfer` or `~/.cache/profinfer`. One that is a symbolic link,
    belongs to somebody else or is open to others is not used.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
        path = root / "profinfer"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except (OSError, RuntimeError):
        return None
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    return path if private and status.st_uid == os.geteuid() else None


def image_name(wasm: bytes, variant: str = "") -> str:
    """Return a file name that no other module, variant, wasmtime or processor kind shares."""
    digest = hashlib.sha256(wasm).hexdigest()[:16]
    version = metadata.version("wasmtime")
    return f"trace_processor{variant}-{digest}-wasmtime{version}-{platform.machine()}.cwasm"


def load_module(
    engine: wasmtime.Engine, wasm_path: Path, directory: Path | None, variant: str = ""
) -> wasmtime.Module:
    """Return the module of `wasm_path`, from its image in `directory` where that is sound.

    Otherwise the module is compiled and its image saved. `directory` None compiles always.
    `variant` names the engine's configuration.
    Raises `OSError` when `wasm_path` cannot be read and `wasmtime.WasmtimeError` when it
    cannot be compiled.
    """
    wasm = wasm_path.read_bytes()
    if directory is None:
        return wasmtime.Module(engine, wasm)
    path = directory / image_name(wasm, variant)
    # An image of another wasmtime configuration is refused by wasmtime itself.
    with contextlib.suppress(OSError, wasmtime.WasmtimeError):
        image = _read_verified(path)
        if image is not None:
            return wasmtime.Module.deserialize(engine, image)
    module = wasmtime.Module(engine, wasm)
    # A full disk or a read-only home costs the next run a compilation, nothing else.
    with contextlib.suppress(OSError):
        _save(path, bytes(module.serialize()))
    return module


def _read_verified(path: Path) -> bytes | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return None
        digest = file.read(_DIGEST_BYTES)
        image = file.read()
    return image if hashlib.sha256(image).digest() == digest else None


def _save(path: Path, image: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(hashlib.sha256(image).digest())
            file.write(image)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
