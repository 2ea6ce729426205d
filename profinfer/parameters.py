"""The integers that the handlers are loaded with: bpf/parameters.h, filled in."""

from __future__ import annotations

from profinfer.errors import ProbeError
from profinfer.layout_data import Layout

SOURCES = 10
"""As many of a tensor's sources are recorded."""
TENSOR_MAX = 512
"""The longest struct ggml_tensor that bpf/ has room for, in bytes."""

_ROUTED = "MUL_MAT_ID"
"""The op that multiplies by the experts' weights."""


def layout_parameters(layout: Layout) -> dict[str, int]:
    """LAYOUT_PARAMETERS of bpf/parameters.h; -1 for a field that this engine lacks. ProbeError when
    the engine's tensors are longer than bpf/ has room for."""
    size = (layout.tensor.size + 7) & ~7
    if size > TENSOR_MAX:
        raise ProbeError(f"the engine's tensors have {size} bytes; there is room for {TENSOR_MAX}")
    t, g, b, u = layout.tensor, layout.cgraph, layout.backend, layout.ubatch
    absent = -1

    def or_absent(value: int | None) -> int:
        return absent if value is None else value

    return {
        "T_SIZE": size,
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
        "E_MUL_MAT_ID": layout.ops.index(_ROUTED) if _ROUTED in layout.ops else absent,
    }
