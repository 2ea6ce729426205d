"""A real engine with several backends: llama.cpp's server through the xllamacpp wheel, with RPC and
BLAS of the same build (tools/build_backends.sh).

    python tests/backends/engine.py FOLDER --serve PORT
    python tests/backends/engine.py FOLDER MODEL --rpc HOST:PORT

The first computes for others, until it is killed; the second has some layers computed there, and
large batches by BLAS. It prints what ggml's scheduler says of its splits (GGML_SCHED_DEBUG), and a
line of JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from pathlib import Path
from typing import Any

PROMPT = "The history of the steam engine begins with " + "a b c d e f g h " * 6
VERBOSE = 10
"""So much that the scheduler's own words are printed."""


def engine() -> Any:
    """The wheel's library, with its functions for whoever is loaded later."""
    import xllamacpp

    [path] = Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    for name in ("load", "dev_by_name", "reg_by_name", "reg_get_proc_address"):
        getattr(library, f"ggml_backend_{name}").restype = ctypes.c_void_p
    return library


def serve(folder: Path, port: str) -> None:
    """Computes on this process's CPU for whoever connects."""
    library = engine()
    rpc = ctypes.CDLL(str(folder / "libggml-rpc.so"))
    cpu = ctypes.c_void_p(library.ggml_backend_dev_by_name(b"CPU"))
    devices = (ctypes.c_void_p * 1)(cpu)
    rpc.ggml_backend_rpc_start_server(
        f"127.0.0.1:{port}".encode(), None, ctypes.c_size_t(1), ctypes.c_size_t(1), devices
    )


def add_server(library: Any, where: str) -> None:
    """As llama.cpp's own programs do it with --rpc."""
    registered = ctypes.c_void_p(library.ggml_backend_reg_by_name(b"RPC"))
    add = library.ggml_backend_reg_get_proc_address(registered, b"ggml_backend_rpc_add_server")
    server = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(add)(where.encode())
    library.ggml_backend_register(ctypes.c_void_p(server))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--serve")
    parser.add_argument("--rpc")
    parser.add_argument("--layers", type=int, default=9, help="how many are offloaded")
    parser.add_argument("--predict", type=int, default=8)
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    if args.serve:
        serve(args.folder, args.serve)
        return 1
    library = engine()
    if args.rpc:
        for name in ("blas", "rpc"):
            path = args.folder / f"libggml-{name}.so"
            if not library.ggml_backend_load(str(path).encode()):
                return 1
        add_server(library, args.rpc)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.n_ctx = 512
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_parallel = 1
    params.warmup = False
    params.n_gpu_layers = args.layers if args.rpc else 0
    params.verbosity = -1 if args.quiet else VERBOSE
    reply: dict[str, Any] = xllamacpp.Server(params).handle_completions(
        {"prompt": PROMPT, "n_predict": args.predict, "temperature": 0, "ignore_eos": True,
         "cache_prompt": False}
    )  # fmt: skip
    print("\n" + json.dumps({"timings": reply["timings"]}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
