"""The texts in a file's constants: they survive stripping."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from profinfer.binaries.elf import Elf
from profinfer.errors import TargetError

_PT_LOAD, _PF_W = 1, 2
_MAX_SIZE = 1 << 30
_CHUNK = 1 << 20
_MAX_PLACES = 64
_PAGE = 4096


def places(elf: Elf, texts: Collection[str]) -> dict[str, list[int]]:
    """Where each text stands, with its end: virtual addresses. Linkers let one text be the end of
    another. TargetError when the file is damaged or of implausible size."""
    wanted = [(text, text.encode() + b"\0") for text in texts]
    found: dict[str, list[int]] = {text: [] for text in texts}
    for start, own, raw in _parts(elf, max((len(each) for _, each in wanted), default=0)):
        for text, each in wanted:
            at = raw.find(each)
            while 0 <= at < own and len(found[text]) < _MAX_PLACES:
                found[text].append(start + at)
                at = raw.find(each, at + 1)
    return found


def has_text(elf: Elf, part: bytes) -> bool:
    """Whether these bytes stand among the constants. TargetError as above."""
    return any(part in raw for _, _, raw in _parts(elf, len(part)))


def _parts(elf: Elf, overlap: int) -> Iterator[tuple[int, int, bytes]]:
    """(address, its own bytes, bytes) of what is loaded and neither written nor executed; of all
    that is not written where constants do not lie apart. A part has the beginning of the next."""
    constants = [s for s in elf.segments if s.type == _PT_LOAD and not s.flags & _PF_W]
    # The headers alone may be a segment of their own.
    apart = [s for s in constants if not s.is_code and s.filesz > _PAGE]
    if sum(segment.filesz for segment in apart or constants) > _MAX_SIZE:
        raise TargetError(f"{elf.path}: implausibly many constants")
    for segment in apart or constants:
        for at in range(0, segment.filesz, _CHUNK):
            rest = segment.filesz - at
            count = min(_CHUNK + overlap, rest)
            raw = elf.data_at(segment.vaddr + at, count, _CHUNK + overlap, "constants")
            yield segment.vaddr + at, min(_CHUNK, rest), raw
