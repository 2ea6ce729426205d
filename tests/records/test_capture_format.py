"""bpf/capture_format.h, which the recorder writes by, against profinfer/records/capture.py, which
reads."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from profinfer.records import capture
from profinfer.records.capture import FORMAT, LOSS_ENTRY, MAGIC, FrameKind

PROGRAM = """
#include <linux/types.h>
#include <stddef.h>
#include <stdio.h>
#include "capture_format.h"
#define AT(of, member) (int)offsetof(struct of, member)
int main(void) {
  static const char magic[16] = CAPTURE_MAGIC;
  fwrite(magic, 1, sizeof(magic), stdout);
  printf("%d %d %u %d\\n", CAPTURE_FORMAT, CAPTURE_OLDEST, ANY_CPU, FRAME_MAX);
  printf("%d %d %d %d\\n", (int)sizeof(struct frame_header), AT(frame_header, kind),
         AT(frame_header, ts), AT(frame_header, length));
  printf("%d %d %d %d %d %d\\n", (int)sizeof(struct loss_entry), AT(loss_entry, cpu),
         AT(loss_entry, kind), AT(loss_entry, lost), AT(loss_entry, first_ts),
         AT(loss_entry, last_ts));
  return 0;
}
"""


@pytest.fixture(scope="module")
def header(repo: Path) -> Path:
    return repo / "bpf/capture_format.h"


def test_frames_have_the_same_numbers(header: Path) -> None:
    found = dict(re.findall(r"^  FRAME_(\w+) = (\d+),", header.read_text(), re.M))
    assert {name: int(number) for name, number in found.items()} == dict(
        FrameKind.__members__.items()
    )


def test_what_stands_around_frames_is_the_same(header: Path, tmp_path: Path) -> None:
    source, program = tmp_path / "format.c", tmp_path / "format"
    source.write_text(PROGRAM)
    command = ["gcc", "-Wall", "-Werror", f"-I{header.parent}", "-o", str(program), str(source)]
    subprocess.run(command, check=True, timeout=60)
    said = subprocess.run([program], check=True, timeout=10, capture_output=True).stdout
    assert said[:15] + bytes([FORMAT]) == MAGIC
    numbers, head, loss = said[16:].decode().splitlines()
    most = capture._MAX_FRAME
    assert numbers == f"{FORMAT} {capture._OLDEST} {capture.ANY_CPU} {most}"
    assert head == f"{capture._HEADER.size} 0 8 16"
    fields = LOSS_ENTRY.fields
    assert fields is not None
    offsets = [fields[name][1] for name in ("cpu", "kind", "lost", "first_ts", "last_ts")]
    assert loss == " ".join(map(str, [LOSS_ENTRY.itemsize, *offsets]))
