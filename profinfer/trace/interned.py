"""Strings that stand in the trace once and are referred to by number: its incremental state."""

from __future__ import annotations

from perfetto_protos import trace_pb2 as pb
from profinfer.errors import OutputError
from profinfer.trace.packets import SMALL_LIMIT


class Table:
    """Ids of one kind of string; new ones wait until they are written."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self.fresh: list[tuple[int, str]] = []

    def id(self, text: str) -> int:
        """The id of a string, from 1."""
        iid = self._ids.get(text)
        if iid is None:
            iid = len(self._ids) + 1
            if iid >= SMALL_LIMIT:
                raise OutputError("more than two million different names in one trace")
            self._ids[text] = iid
            self.fresh.append((iid, text))
        return iid

    def restate(self) -> None:
        """Everything is to be written again."""
        self.fresh = [(iid, text) for text, iid in self._ids.items()]


class Interned:
    """The tables of one packet sequence."""

    def __init__(self) -> None:
        self.names = Table()
        self.categories = Table()
        self.annotations = Table()
        self.strings = Table()
        """Values of arguments."""
        self.kernel_symbols = Table()
        """Functions of the kernel."""
        self.correlations = Table()
        """What slices have in common."""
        self._tables = (
            self.names, self.categories, self.annotations, self.strings, self.kernel_symbols,
            self.correlations,
        )  # fmt: skip

    @property
    def is_fresh(self) -> bool:
        """Whether there are strings to write."""
        return any(table.fresh for table in self._tables)

    def restate(self) -> None:
        """Every string is to be written again, under its old id."""
        for table in self._tables:
            table.restate()

    def write(self, data: pb.InternedData) -> None:
        """Takes out the strings that are to be written."""
        for iid, text in self.names.fresh:
            data.event_names.add(iid=iid, name=text)
        for iid, text in self.categories.fresh:
            data.event_categories.add(iid=iid, name=text)
        for iid, text in self.annotations.fresh:
            data.debug_annotation_names.add(iid=iid, name=text)
        for iid, text in self.strings.fresh:
            data.debug_annotation_string_values.add(iid=iid, str=text.encode())
        for iid, text in self.kernel_symbols.fresh:
            data.kernel_symbols.add(iid=iid, str=text.encode())
        for iid, text in self.correlations.fresh:
            data.correlation_id_str.add(iid=iid, str=text.encode())
        for table in self._tables:
            table.fresh.clear()
