"""Compiles and loads bpf/ and hands out what the recorder needs of it: programs, rings, maps.

`Loaded` is what any loader gives; BCC is the one here. Another (libbpf) only has to build a
`Loaded` from the same handler bodies.
"""

from __future__ import annotations

import mmap
import os
import platform
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from profinfer import kernel
from profinfer.errors import KernelError
from profinfer.layout_data import Layout
from profinfer.record_ring import RecordRings
from profinfer.records import CONTROL, KIND_COUNT, LOSS, RECORD, SOURCES, WIDE_SIZE, Records
from profinfer.ring import Ring

BPF_DIR = Path(__file__).resolve().parent.parent / "bpf"
_CHAIN = ("chain_hash", "chain_emit", "chain_tokens")


def cpu_count() -> int:
    """CPUs that can ever run a handler (the kernel's possible set)."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return max(int(part.split("-")[-1]) for part in text.split(",")) + 1


def layout_macros(layout: Layout) -> dict[str, int]:
    """The offsets that bpf/ expects; -1 for a field that this engine lacks."""
    t, g, b, u = layout.tensor, layout.cgraph, layout.backend, layout.ubatch
    absent = -1

    def or_absent(value: int | None) -> int:
        return absent if value is None else value

    return {
        "T_SIZE": (t.size + 7) & ~7,
        "T_TYPE": t.type,
        "T_BUFFER": or_absent(t.buffer),
        "T_NE": t.ne,
        "T_NB": t.nb,
        "T_OP": t.op,
        "T_OP_PARAMS": t.op_params,
        "T_FLAGS": or_absent(t.flags),
        "T_SRC": t.src,
        "T_SOURCES": min(t.max_src, SOURCES),
        "T_VIEW_SRC": or_absent(t.view_src),
        "T_DATA": t.data,
        "T_NAME": t.name,
        "T_NAME_SIZE": t.name_size,
        "G_N_NODES": g.n_nodes,
        "G_NODES": g.nodes,
        "G_UID": or_absent(g.uid),
        "B_GUID": or_absent(b.guid if b else None),
        "B_GET_NAME": or_absent(b.get_name if b else None),
        "U_N_TOKENS": or_absent(u.n_tokens if u else None),
        "U_POS": or_absent(u.pos if u else None),
        "U_SEQ_ID": or_absent(u.seq_id if u else None),
        "U_OUTPUT": or_absent(u.output if u else None),
    }


@dataclass
class Loaded:
    """Programs in the kernel, not attached yet."""

    program: Callable[[str], int]
    """fd of a program by name; it is loaded at the first call."""
    rings: RecordRings
    """One per CPU, of RECORD."""
    structure_ring: Ring
    """Of wide records."""
    control_fd: int
    loss_fd: int
    close: Callable[[], None]

    def set_control(self, **fields: int) -> None:
        """Sets struct control anew; what is not named becomes 0."""
        state = np.zeros(1, CONTROL)
        for name, value in fields.items():
            state[name] = value
        kernel.map_update(self.control_fd, struct.pack("<I", 0), state.tobytes())

    def control(self) -> Records:
        """struct control as it stands."""
        raw = kernel.map_lookup(self.control_fd, struct.pack("<I", 0), CONTROL.itemsize)
        return np.frombuffer(bytearray(raw), CONTROL)

    def losses(self) -> Records:
        """struct loss by CPU and kind; shape (cpus, KIND_COUNT)."""
        count = self.rings.cpus * KIND_COUNT
        raw = kernel.map_read(self.loss_fd, count, LOSS.itemsize)
        return np.frombuffer(raw, LOSS).reshape(self.rings.cpus, KIND_COUNT)


def _import_bcc() -> Any:
    try:
        import bcc
    except ImportError as error:
        raise KernelError(
            f"BCC's Python binding cannot be imported: {error}",
            "apt-get install python3-bpfcc, then make setup",
        ) from None
    return bcc


def _explain(errors: str) -> KernelError:
    """What went wrong in a compilation, from what BCC printed."""
    if "chdir" in errors or "kernel headers" in errors.lower() or "file not found" in errors:
        return KernelError(
            f"BCC found no kernel headers for the running kernel {platform.release()}",
            "make setup installs the distribution's headers and links them",
        )
    tail = "\n".join(errors.strip().splitlines()[-8:])
    return KernelError(f"BCC could not compile or load the handlers:\n{tail}")


class _Quiet:
    """Keeps what libbcc and clang print on stderr, to be shown only when they fail."""

    def __enter__(self) -> _Quiet:
        self._saved = os.dup(2)
        self._fd = os.memfd_create("bcc-stderr")
        os.dup2(self._fd, 2)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
        size = os.lseek(self._fd, 0, os.SEEK_END)
        self.text = os.pread(self._fd, size, 0).decode("utf-8", "replace")
        os.close(self._fd)


def compile_bcc(source: Path, macros: dict[str, int]) -> Any:
    """A bcc.BPF of one source file; KernelError with the reason when it does not compile."""
    bcc = _import_bcc()
    flags = [f"-I{source.parent}", "-Wno-everything"]
    flags += [f"-D{name}={value}" for name, value in macros.items()]
    quiet = _Quiet()
    try:
        with quiet:
            return bcc.BPF(src_file=os.fsencode(source), cflags=flags)
    except Exception as error:
        raise _explain(quiet.text or str(error)) from None


def load_program(bpf: Any, name: str, kind: int = 2) -> int:
    """The fd of one program; KernelError with the verifier's last lines when it is refused.

    `kind` is its bpf_prog_type; 2 is BPF_PROG_TYPE_KPROBE, which uprobes are too.
    """
    quiet = _Quiet()
    try:
        with quiet:
            fd: int = bpf.load_func(name.encode(), kind).fd
    except Exception as error:
        raise _explain(quiet.text or str(error)) from None
    return fd


def load_bcc(layout: Layout, ring_size: int, structure_ring_size: int) -> Loaded:
    """The handlers for one engine, with a ring of `ring_size` bytes per CPU."""
    cpus = cpu_count()
    macros = layout_macros(layout)
    macros["N_CPUS"] = cpus
    macros["RING_SLOTS"] = ring_size // RECORD.itemsize
    if platform.machine() == "x86_64":
        macros["STORES_IN_ORDER"] = 1
    macros["WIDE_PAGES"] = structure_ring_size // mmap.PAGESIZE
    bpf = compile_bcc(BPF_DIR / "bcc.c", macros)
    rings = RecordRings(bpf[b"ring_heads"].map_fd, bpf[b"ring_slots"].map_fd, cpus, ring_size)
    structure_ring = Ring(bpf[b"structure_ring"].map_fd, structure_ring_size, WIDE_SIZE)
    for index, name in enumerate(_CHAIN):
        fd = load_program(bpf, name)
        kernel.map_update(bpf[b"chain"].map_fd, struct.pack("<I", index), struct.pack("<I", fd))

    def close() -> None:
        rings.close()
        structure_ring.close()
        bpf.cleanup()

    return Loaded(
        program=lambda name: load_program(bpf, name),
        rings=rings,
        structure_ring=structure_ring,
        control_fd=bpf[b"control_map"].map_fd,
        loss_fd=bpf[b"loss_map"].map_fd,
        close=close,
    )
