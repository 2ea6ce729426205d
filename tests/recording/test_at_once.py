"""Two recorders at once, one loaded by libbpf and one by BCC: of one run they say the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD, Kind
from tests.recording.test_means import TARGET, content
from tests.support import PLACED, Engine, attached, double_fixture, finish, waiting

__all__ = ["double_fixture"]

OPTIONS = ("--level", "barrier", "--faults")


def by_thread(raw: Path) -> Counter[tuple[int, int]]:
    """Records of a capture by kind and thread."""
    found: Counter[tuple[int, int]] = Counter()
    for frame in read_capture(raw):
        if frame.kind == FrameKind.RECORDS:
            records = np.frombuffer(frame.data, RECORD)
            # The first to attach has seen faults that the other was not there for.
            records = records[records["kind"] != Kind.FAULT]
            found.update(zip(records["kind"].tolist(), records["tid"].tolist(), strict=True))
    return found


@pytest.mark.parametrize("transport", ["ring", "perf"])
def test_libbpf_and_bcc_say_the_same_of_one_run(
    transport: str, double: Engine, tmp_path: Path
) -> None:
    raws = {loader: tmp_path / f"{loader}.raw" for loader in ("libbpf", "bcc")}

    def options(loader: str) -> tuple[object, ...]:
        return (*OPTIONS, "--loader", loader, "--transport", transport, "--raw", raws[loader])

    with waiting(double, tmp_path / "go", *TARGET[1:]) as known:
        pid = known.pid
        with (
            attached(double, pid, tmp_path / "b", *options("bcc"), probes=PLACED) as bcc,
            attached(double, pid, tmp_path / "l", *options("libbpf"), probes=PLACED) as libbpf,
        ):
            known.go()
            truth = known.truth()
            for code, said in (finish(bcc), finish(libbpf)):
                assert code == 0, said
                assert ", 0 lost (the target ended)" in said
    counts = {loader: by_thread(raw) for loader, raw in raws.items()}
    assert counts["libbpf"] == counts["bcc"]
    for thread in truth["threads"]:
        assert counts["bcc"][Kind.OPERATOR, thread["tid"]] == thread["extra"]
        assert counts["bcc"][Kind.FUSED, thread["tid"]] == thread["fused"]
    found = {loader: content(raw) for loader, raw in raws.items()}
    assert found["libbpf"] == found["bcc"]
    assert found["bcc"]["structures"]
    assert found["bcc"]["tokens"]
