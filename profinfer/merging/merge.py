"""Joining traces: survey every input, place them in time, number what collides, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from profinfer.errors import UsageError
from profinfer.merging import ends, wire
from profinfer.merging.clocks import agreement, duration
from profinfer.merging.doubles import find_doubles
from profinfer.merging.groups import Group, group
from profinfer.merging.numbering import Numbering, check_overlaps
from profinfer.merging.rewrite import Rewriter
from profinfer.merging.source import Source
from profinfer.merging.survey import Survey, survey
from profinfer.output import Output


@dataclass
class Report:
    """What was done, in sentences, and what a reader must be warned of."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def merge(
    inputs: Sequence[Path], output: Output, offset_ns: int | None, *, same_boot: bool,
    is_one: bool = False,
) -> Report:  # fmt: skip
    """Writes the inputs as one trace. `is_one`: they are one recording's, which took care that no
    two are of one program. TraceError when one cannot be read or placed in time."""
    surveys = [survey(Source(path)) for path in inputs]
    groups = group(surveys, offset_ns, same_boot=same_boot)
    for together in () if is_one else groups:
        check_overlaps(together)
    numbering = Numbering(groups)
    overlaps = find_doubles(groups)
    several_ftrace = sum(each.has_ftrace for each in surveys) > 1
    report = Report()
    machines = {member.name: each for each in groups for member in each.members}
    output.append(ends.head(groups, numbering))
    for each in surveys:
        mine = [overlap for overlap in overlaps if overlap.poorer is each]
        rewriter = Rewriter(
            each, numbering.inputs[each.name], machines[each.name].machine,
            [overlap.doubles for overlap in mine]
            + [overlap.starts for overlap in overlaps if overlap.richer is each],
            several_ftrace=several_ftrace,
        )  # fmt: skip
        source = Source(each.source.path)
        try:
            for chunk in source.chunks():
                output.append(rewriter.rewrite(chunk))
        except wire.DamagedError:
            raise source.damaged("it holds bytes that are no packet") from None
        report.lines.append(_placed(each, machines[each.name], groups[0]))
        report.lines += [str(overlap) for overlap in mine]
        if mine:
            report.lines.append(f"{rewriter.left_out:,} events of {each.name} are left out")
        if each.source.cut:
            report.warnings.append(f"{each.name} is cut: merged up to its last whole packet")
    output.append(ends.tail(groups, numbering))
    return report


def check_different(inputs: Sequence[Path], output: Path) -> None:
    """UsageError when a file is named twice, be it by other names."""
    for i, path in enumerate(inputs):
        if _is_same(path, output):
            raise UsageError(
                f"{output} is to be written, and is one of the traces to read",
                "give the output a name of its own",
            )
        for other in inputs[:i]:
            if _is_same(path, other):
                raise UsageError(f"{other} and {path} are the same file")


def _is_same(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:
        return False


def _placed(member: Survey, mine: Group, host: Group) -> str:
    """How an input was placed in time, and by how much that may be wrong."""
    first = host.members[0]
    if mine is host and member is first:
        return f"{member.name}: its machine's BOOTTIME is the time of the merged trace"
    if mine is host:
        text = f"{member.name}: same boot as {first.name}, {mine.why[member.name]}: not shifted"
        apart = agreement(first.snapshots, member.snapshots)
        return text + (f". Snapshots disagree about {apart} beside BOOTTIME" if apart else "")
    shift, why = mine.shift, mine.why[mine.members[0].name]
    return (
        f"{member.name}: another boot than {first.name}'s ({why}), machine {mine.machine} "
        f"in the merged trace: shifted by {shift.ns / 1e9:+.9f} s ({shift.remark}): off by "
        f"up to {duration(shift.off_ns)}, if both machines' REALTIME was right"
    )
