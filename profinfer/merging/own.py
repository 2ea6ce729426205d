"""ProfInfer's own recordings inside traces: what identifies one, and its numbers made unique.

Graphs, ubatches, structures, tensors and files are numbered from 1 in every recording, and SQL
joins by these numbers: those of a second recording in the same trace are shifted past the first's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from profinfer.merging import scan, wire
from profinfer.merging.scan import Packets
from profinfer.trace.packets import ANNOTATIONS

_TENSOR = 1
_MARK = dict(enumerate(ANNOTATIONS[:3], _TENSOR))
"""Every sequence of ours begins by interning these (trace/writer.py); the first is an argument
that only older recordings use."""

_NUMBERED = {
    "graph_id": "graph", "structure_id": "structure", "ubatch_id": "ubatch", "tensor_id": "tensor",
    "fused_tensor_id": "tensor", "view_src": "tensor", "src": "tensor", "nodes": "tensor",
    "file": "file", "request": "request", "shared_prefill_of": "request", "draft_of": "request",
}  # fmt: skip
_ID = re.compile(rb"(?<=  #)\d+$")
"""At the end of a tensor's description."""

_ANNOTATIONS, _TRACK_UUID = 4, 11  # TrackEvent
_ANNOTATION_NAME = 0x08  # tag of DebugAnnotation.name_iid

Shifts = Mapping[str, int]
"""What to add to the numbers of graphs, structures, ubatches, tensors and files."""


@dataclass
class Recording:
    """One recording, as its sequence of packets tells it."""

    annotations: dict[int, str] = field(default_factory=dict)
    events: dict[int, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=lambda: {"tensor": 0})
    """The largest number of each kind."""
    start: int = 0
    """BOOTTIME ns; `end` is None where the end of the recording is missing."""
    end: int | None = None
    about: dict[str, Any] = field(default_factory=dict)
    """What the recorder says of itself: boot_id, host, target (pid, name, command), and the PID
    namespace whose numbers it has, where they are not the machine's."""

    def add_interned(self, data: Any) -> None:
        """Strings that events refer to."""
        self.annotations |= {each.iid: each.name for each in data.debug_annotation_names}
        self.events |= {
            each.iid: each.name for each in data.event_names if each.name.startswith("recording ")
        }

    def add_event(self, packet: Any) -> None:
        """An event with arguments."""
        event = packet.track_event
        for annotation, kind in self._numbered(event):
            for value in annotation.array_values or (annotation,):
                number = value.int_value or value.uint_value
                self.numbers[kind] = max(self.numbers.get(kind, 0), number)
        name = self.events.get(event.name_iid)
        if name == "recording started":
            self.start = packet.timestamp
            for annotation in event.debug_annotations:
                key = self.annotations.get(annotation.name_iid, "")
                if key in ("boot_id", "host", "pid_namespace", "target"):
                    self.about[key] = _value(annotation)
        elif name == "recording ended":
            self.end = packet.timestamp

    def renumber(self, event: Any, shifts: Shifts) -> None:
        """Shifts the numbers among an event's arguments."""
        for annotation, kind in self._numbered(event):
            for value in annotation.array_values or (annotation,):
                if value.int_value:
                    value.int_value += shifts.get(kind, 0)
                elif value.uint_value:
                    value.uint_value += shifts.get(kind, 0)
        for annotation in event.debug_annotations:
            if self.annotations.get(annotation.name_iid) == "description":
                text = annotation.string_value.encode()
                annotation.string_value = _renumbered(text, shifts).decode()

    def _numbered(self, event: Any) -> list[tuple[Any, str]]:
        named = [
            (each, self.annotations.get(each.name_iid, "")) for each in event.debug_annotations
        ]
        return [(each, _NUMBERED[name]) for each, name in named if name in _NUMBERED]


def is_own(data: Any) -> bool:
    """Whether a sequence's first interned data is a recorder's of ours."""
    return {each.iid: each.name for each in data.debug_annotation_names[: len(_MARK)]} == _MARK


def renumber_interned(data: Any, shifts: Shifts) -> None:
    """Shifts the numbers in interned descriptions of tensors."""
    # Older recordings have them as an argument.
    for table in (data.correlation_id_str, data.debug_annotation_string_values):
        for each in table:
            each.str = _renumbered(each.str, shifts)


@dataclass(frozen=True)
class Events:
    """The track events among some packets of ours."""

    rows: wire.Index
    track: wire.Values
    """Uuid of each one's track."""
    annotated: wire.Mask
    """Which of them have arguments other than a tensor: graphs, ubatches and what describes them,
    which are few."""


def events(packets: Packets, rows: wire.Index) -> Events:
    """The track events among the packets `rows`, which are of ours."""
    rows = rows[packets.column(scan.TRACK_EVENT).present[rows]]
    data = packets.data
    track = np.zeros(len(rows), np.uint64)
    found = np.zeros(len(rows), np.bool_)
    for step in wire.walk(data, *packets.nested(scan.TRACK_EVENT, rows)):
        if each := step.of(_TRACK_UUID, wire.VARINT):
            track[each.rows] = each.value
        if each := step.of(_ANNOTATIONS, wire.BYTES):
            tensor = (data[each.at] == _ANNOTATION_NAME) & (data[each.at + 1] == _TENSOR)
            found[each.rows[~tensor]] = True
    return Events(rows, track, found)


def _renumbered(text: bytes, shifts: Shifts) -> bytes:
    shift = shifts.get("tensor", 0)
    return _ID.sub(lambda match: b"%d" % (int(match[0]) + shift), text)


def _value(annotation: Any) -> Any:
    """An argument as plain Python."""
    if annotation.dict_entries:
        return {each.name: _value(each) for each in annotation.dict_entries}
    if annotation.array_values:
        return [_value(each) for each in annotation.array_values]
    kind = annotation.WhichOneof("value")
    return getattr(annotation, kind) if kind else None
