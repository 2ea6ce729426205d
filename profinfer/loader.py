"""Which loader puts the BPF programs into the kernel: libbpf, or BCC where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from profinfer import bcc_loader, libbpf_loader
from profinfer.errors import KernelError
from profinfer.programs import Programs, Source

LIBBPF, BCC = "libbpf", "bcc"


@dataclass(frozen=True)
class Loader:
    """A loader; `load` may raise KernelError."""

    name: str
    """LIBBPF or BCC."""
    load: Callable[[Source], Programs]
    reason: str = ""
    """Why it is not libbpf."""


def choose(wanted: str) -> Loader:
    """The loader for "auto", LIBBPF or BCC. KernelError when libbpf is asked for and not usable."""
    why = "not asked for" if wanted == BCC else libbpf_loader.missing()
    if not why:
        return Loader(LIBBPF, libbpf_loader.load_libbpf)
    if wanted == LIBBPF:
        raise KernelError(why, "make setup installs libbpf and builds its objects; or --loader bcc")
    return Loader(BCC, bcc_loader.load_bcc, why)
