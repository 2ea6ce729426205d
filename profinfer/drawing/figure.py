"""A figure: which ready queries it is made of, and the charts of what they answer.

A figure of several traces compares them; where it needs only one, each trace has its charts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from profinfer.drawing.charts import Chart, Picture, Row
from profinfer.trace_processor import Session, query


class Traced:
    """A trace's answers. Each ready query is asked once; the session may be closed after `ask`."""

    def __init__(self, name: str, session: Session) -> None:
        self.name = name
        self._session = session
        self._answers: dict[str, dict[str, list[Row]]] = {}
        self._drawn: dict[str, str] = {}

    def ask(self, queries: Iterable[str]) -> None:
        """Asks ready queries, by name, that have not been asked yet."""
        for name in queries:
            if name not in self._answers:
                tables = query.run(self._session, query.read(query.resolve(name)))
                self._answers[name] = {
                    table.title.partition(" (")[0]: [
                        dict(zip(table.columns, row, strict=True)) for row in table.rows
                    ]
                    for table in tables
                }

    def draw(self, what: str, draw: Callable[[Session], str]) -> str:
        """What another tool draws of the trace itself: drawn once, while the session is open."""
        if what not in self._drawn:
            self._drawn[what] = draw(self._session)
        return self._drawn[what]

    def asked(self, name: str) -> bool:
        """Whether that ready query was asked."""
        return name in self._answers

    def table(self, name: str, title: str) -> list[Row]:
        """The rows of one of its tables: by title, without what stands in brackets."""
        self.ask([name])
        return self._answers[name][title]


Charts = Sequence[Chart | Picture] | str
"""Charts, or, as text, why there are none."""
UNKNOWN = "none of its numbers is known"
"""Why a chart is left out whose rows are there."""


@dataclass(frozen=True)
class Figure:
    """`title` says what it shows, `needs` what it cannot do without."""

    title: str
    needs: str
    queries: tuple[str, ...]
    charts: Callable[[Sequence[Traced]], Sequence[Chart | Picture]]
    further: Callable[[Traced], Iterable[str]] = lambda _: ()
    """By a trace's answers, what else it is to be asked."""

    def ask(self, trace: Traced) -> None:
        """Asks what it is made of."""
        trace.ask(self.queries)
        trace.ask(self.further(trace))

    def draw(self, traces: Sequence[Traced]) -> Charts:
        """Its charts, or why these traces cannot give any."""
        for trace in traces:
            self.ask(trace)
        return self.charts(traces) or f"it needs {self.needs}"


def of_each(
    draw: Callable[[Traced], Sequence[Chart | Picture]],
) -> Callable[[Sequence[Traced]], list[Chart | Picture]]:
    """Charts of every trace, which say of which where there are several."""

    def charts(traces: Sequence[Traced]) -> list[Chart | Picture]:
        return [
            replace(chart, title=f"{chart.title}: {trace.name}") if len(traces) > 1 else chart
            for trace in traces
            for chart in draw(trace)
        ]

    return charts
