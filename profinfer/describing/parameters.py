"""The integers that the handlers are loaded with: bpf/parameters.h, filled in."""

from __future__ import annotations

from profinfer.describing.layout import Layout
from profinfer.errors import ProbeError
from profinfer.records.limits import SOURCES

TENSOR_MAX = 512
"""The longest struct ggml_tensor that bpf/ has room for, in bytes."""

_OPS = ("MUL_MAT_ID", "MUL")
"""The ops that multiply by the experts' weights, and what they gave by the router's."""


def layout_parameters(layout: Layout) -> dict[str, int]:
    """LAYOUT_PARAMETERS of bpf/parameters.h; -1 for a field that this engine lacks. ProbeError when
    the engine's tensors are longer than bpf/ has room for."""
    size = (layout.tensor.size + 7) & ~7
    if size > TENSOR_MAX:
        raise ProbeError(f"the engine's tensors have {size} bytes; there is room for {TENSOR_MAX}")

    def fields(prefix: str, struct: object, *names: str) -> dict[str, int]:
        found = {name: getattr(struct, name, None) for name in names}
        return {f"{prefix}_{name.upper()}": -1 if at is None else at for name, at in found.items()}

    return {
        "T_SIZE": size,
        "T_SOURCES": min(layout.tensor.max_src, SOURCES),
        **fields("T", layout.tensor, "type", "buffer", "ne", "nb", "op", "op_params", "flags"),
        **fields("T", layout.tensor, "src", "view_src", "data", "name", "name_size"),
        **fields("G", layout.cgraph, "n_nodes", "nodes", "uid"),
        **fields("B", layout.backend, "guid", "get_name"),
        **fields("U", layout.ubatch, "n_tokens", "pos", "seq_id", "output"),
        **{f"E_{op}": layout.ops.index(op) if op in layout.ops else -1 for op in _OPS},
    }
