"""What a recording asks of an engine's file: its functions, where probes may sit in them, and which
words lead to them.

To find it out takes a disassembler, numpy and some 100 ms, so it is done in a process that ends,
once per file, and kept. What is kept is believed of a file with the same build id only if the
code of each function is what was looked at.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from profinfer import cache
from profinfer.binaries.elf import Elf
from profinfer.binaries.relocations import Word, linkage_words
from profinfer.binaries.sites import Site, direct_references, entry_sites
from profinfer.binaries.texts import has_text
from profinfer.engine.adapter import adapters
from profinfer.engine.aside import aside
from profinfer.engine.backends import backend_functions
from profinfer.errors import TargetError

if TYPE_CHECKING:
    from profinfer.binaries.naming import Named

_MARK_TEXT = b"GGML_ASSERT"
"""Every file of ggml's says it when it fails."""

_FORMAT = 5
_MAX_JSON = 1 << 20
_ALL = 8
"""As many arguments as registers hold."""
_CODE = 256
"""Bytes of a function by which it is known again: what its entry block may have."""


@dataclass(frozen=True)
class Function:
    """A function that may be probed."""

    name: str
    value: int
    """Virtual address, as linked."""
    offset: int
    """The same in the file."""
    code: str
    """Its first bytes, in hex."""
    sites: tuple[Site, ...]
    """Where a probe sees each call once; see `entry_sites`."""
    direct: int | None = None
    """Of those that the audit library redirects: where the file leads to it without the linkage
    table, if anywhere."""
    words: tuple[Word, ...] = ()
    """And the words by which it is called otherwise."""
    problem: str = ""
    """Or why they cannot be told."""
    found_by: str = ""
    """See naming.py."""
    is_copy: bool = False
    """Whether it is a part of another function that does what this one does."""


@dataclass(frozen=True)
class Description:
    """Of one file."""

    is_engine: bool
    families: tuple[str, ...] = ()
    """Of adapters whose marks it bears."""
    functions: tuple[Function, ...] = ()
    backends: dict[int, str] = field(default_factory=dict)
    """Virtual addresses of functions that may be a backend's get_name, and what each is called."""
    work: tuple[int, ...] = ()
    """Offsets in the file of functions where an engine begins to work."""
    unfound: dict[str, str] = field(default_factory=dict)
    """Why functions that have no symbols were not found."""

    def named(self, pattern: str) -> list[Function]:
        """Its functions of a name that an adapter has."""
        return [f for f in self.functions if re.fullmatch(pattern, f.name)]


def may_be_engine(elf: Elf) -> bool:
    """Whether it is worth describing."""
    return _may_name(elf) or has_text(elf, _MARK_TEXT)


def _may_name(elf: Elf) -> bool:
    return any(map(elf.may_name, adapters().mark_parts))


def is_engine(elf: Elf) -> bool:
    """Whether a file defines functions by which an engine is known, or has ggml's texts and names
    nothing of it. TargetError when it is damaged."""
    if _may_name(elf):
        return bool(elf.symbols.matching(adapters().mark))
    return has_text(elf, _MARK_TEXT)


_known: weakref.WeakKeyDictionary[Elf, Description] = weakref.WeakKeyDictionary()


def describe(elf: Elf) -> Description:
    """The file's description; TargetError when it is damaged."""
    if elf not in _known:
        _known[elf] = _examine(elf)
    return _known[elf]


def recall(elves: Sequence[Elf], uid: int) -> None:
    """Describes files of a process of user `uid`, from what is kept as far as that goes: a build id
    is easily forged, and one user's forgery must not answer for another's library."""
    kind = f"{_FORMAT} {adapters().fingerprint}"
    places = {
        elf: elf.note_id and cache.cache_file("file", f"{kind} {uid} {elf.note_id} {elf.size}")
        for elf in elves
    }
    for elf, place in places.items():
        if place and (kept := _kept(elf, cache.load(place, _MAX_JSON) or b"")):
            _known[elf] = kept
    unknown = [elf for elf in elves if elf not in _known]
    if not unknown:
        return
    # What it takes to read machine code would stay with us to the end. What comes back is believed
    # as what is kept is: the child has read strangers' files.
    try:
        answer = json.loads(aside(lambda: _examined(unknown)))
    except ChildProcessError as error:
        names = ", ".join(elf.path.name for elf in unknown)
        raise TargetError(f"{names} could not be examined: {error}") from None
    for elf, found in zip(unknown, answer, strict=True):
        text = json.dumps(found).encode()
        description = _kept(elf, text)
        if description is None:
            continue  # damaged: whoever asks for it will hear
        _known[elf] = description
        if place := places[elf]:
            cache.store(place, text)


def _examined(elves: Sequence[Elf]) -> bytes:
    """A JSON list of their descriptions, null for those that are damaged."""
    found: list[dict[str, Any] | None] = []
    for elf in elves:
        try:
            found.append(asdict(_examine(elf)))
        except TargetError:
            found.append(None)
    return json.dumps(found).encode()


def _kept(elf: Elf, text: bytes) -> Description | None:
    """A kept description, if it is of this file."""
    try:
        found = json.loads(text)
        functions = tuple(_kept_function(**function) for function in found["functions"])
        backends = {int(vaddr): str(name) for vaddr, name in found["backends"].items()}
        if all(_code(elf, f.offset, len(f.code) // 2) == f.code for f in functions):
            work = tuple(int(offset) for offset in found["work"])
            unfound = {str(name): str(why) for name, why in found["unfound"].items()}
            families = tuple(str(family) for family in found["families"])
            return Description(
                bool(found["is_engine"]), families, functions, backends, work, unfound
            )
    except (ValueError, TypeError, KeyError, TargetError):
        pass
    return None


def _kept_function(sites: list[Any], words: list[Any], **rest: Any) -> Function:
    return Function(
        sites=tuple(Site(**site) for site in sites), words=tuple(Word(**word) for word in words),
        **rest,
    )  # fmt: skip


# ---- What takes long


def _examine(elf: Elf) -> Description:
    if not is_engine(elf):
        return Description(False)
    # Here: it takes what only who examines a file has use for.
    from profinfer.binaries.naming import Names

    names, known = Names(elf), adapters()
    functions = tuple(
        _function(
            elf,
            named,
            with_return=with_return,
            is_redirected=pattern in known.redirected,
            arguments=known.arguments.get(pattern, _ALL),
        )
        for pattern, with_return in known.symbols.items()
        for named in names.whole(pattern)
    )
    work = [named.symbol.value for name in known.work for named in names.whole(name)]
    marks = (symbol.name for symbol in elf.symbols.matching(known.mark))
    families = known.families({*marks, *(function.name for function in functions)})
    return Description(
        True, families, functions, backend_functions(elf) | names.backends,
        tuple(map(elf.file_offset, work)), names.unfound,
    )  # fmt: skip


def _function(
    elf: Elf, named: Named, *, with_return: bool, is_redirected: bool, arguments: int
) -> Function:
    symbol = named.symbol
    direct: int | None = None
    words: tuple[Word, ...] = ()
    problem = ""
    sites = tuple(entry_sites(elf, symbol, at_return=with_return, arguments=arguments))
    if is_redirected and not named.is_copy:
        direct = next(iter(direct_references(elf, symbol.value)), None)
        try:
            words = tuple(linkage_words(elf, symbol.name))
        except TargetError as error:
            problem = error.message
    offset = elf.file_offset(symbol.value)
    code = _code(elf, offset, min(max(symbol.size, 1), _CODE))
    return Function(
        symbol.name, symbol.value, offset, code, sites, direct, words, problem,
        named.found_by, named.is_copy,
    )  # fmt: skip


def _code(elf: Elf, offset: int, size: int) -> str:
    return elf.bytes_at(offset, size).hex()
