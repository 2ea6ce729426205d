"""What a recording of faults and file reads does, from before the target runs to after its end."""

from __future__ import annotations

from typing import Any

from profinfer.capture import Frame, FrameKind, json_frame
from profinfer.drain import boot_ns
from profinfer.loaded import Loaded
from profinfer.mappings import Mappings
from profinfer.memory_probes import KernelCounts, MemoryProbes, kernel_counts
from profinfer.models import describe_models


class MemoryRecorder:
    """Does nothing unless faults or file reads are wanted."""

    def __init__(self, pid: int = 0, *, faults: bool = False, reads: bool = False) -> None:
        self.probes = MemoryProbes(pid, faults, reads)
        self._pid = pid
        self._wanted = faults or reads
        self._mappings = Mappings(pid)
        self._before: KernelCounts | None = None
        self._after: KernelCounts | None = None

    def begin(self, loaded: Loaded) -> None:
        """From here on it is recorded."""
        if self._wanted:
            self._before = kernel_counts(self._pid)
            self.probes.attach(loaded)

    def look(self) -> list[Frame]:
        """To be called before every drain: where files are mapped now."""
        return self._mappings.look(boot_ns()) if self._wanted else []

    def end(self) -> None:
        """Until here it is recorded."""
        if self._wanted:
            self.probes.detach()
            self._after = kernel_counts(self._pid)

    def models(self) -> list[Frame]:
        """The tensors of the models that were mapped. Read at the end, beside nobody's work."""
        if not self._mappings.models:
            return []
        described = describe_models(self._mappings.models)
        return [json_frame(FrameKind.MODELS, boot_ns(), described)]

    def to_json(self) -> dict[str, Any] | None:
        """What the kernel itself has counted meanwhile, to compare; None where nothing was asked
        for. A process that is gone cannot be asked."""
        if not self._wanted:
            return None
        before, after = self._before, self._after
        if before is None or after is None:
            return {"kernel": None}
        counts = {"minor": after.minor - before.minor, "major": after.major - before.major}
        if after.read_bytes is not None and before.read_bytes is not None:
            counts["read_bytes"] = after.read_bytes - before.read_bytes
        return {"kernel": counts}

    def close(self) -> None:
        """Lets go of everything."""
        self.probes.detach()
        self._mappings.close()
