"""Compiled WebAssembly modules kept between runs.

Compiling Trace Processor takes seconds; an ahead-of-time image of it maps in hundredths. Such
an image is native code that wasmtime runs without verifying, so it is only taken from a
directory that nobody else can write to, and only when the digest in front of it is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
from importlib import metadata
from pathlib import Path

import wasmtime

from profinfer import cache

_DIGEST_BYTES = hashlib.sha256().digest_size
_LARGEST = 1 << 28


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
    kept = cache.load(path, _LARGEST) or b""
    digest, image = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
    if hashlib.sha256(image).digest() == digest:
        # An image of another wasmtime configuration is refused by wasmtime itself.
        with contextlib.suppress(wasmtime.WasmtimeError):
            return wasmtime.Module.deserialize(engine, image)
    module = wasmtime.Module(engine, wasm)
    image = bytes(module.serialize())
    cache.store(path, hashlib.sha256(image).digest() + image)
    return module
