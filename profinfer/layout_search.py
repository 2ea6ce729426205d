"""The experiments that find an engine's layout: which libraries take part, and what is believed of
what the throw-away processes say."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from profinfer.elf import Elf
from profinfer.emulator import Emulator
from profinfer.errors import ProbeError
from profinfer.layout_child_ggml import REQUIRED
from profinfer.layout_child_ggml import WANTED as WANTED_GGML
from profinfer.layout_child_ubatch import HOOKED, VOCABULARY
from profinfer.layout_child_ubatch import WANTED as WANTED_LLAMA
from profinfer.layout_data import Layout, clean
from profinfer.layout_model import tiny_model
from profinfer.layout_sandbox import Answer, ask

_ET_EXEC = 2
_EMULATED = 10
"""Times as long as natively."""
_PROCESS_UBATCH = r"^_ZN13llama_context14process_ubatchERK12llama_ubatch[^.]*$"
_UNREADABLE_HINT = (
    "it is loaded as its owner, and root's as nobody, who must be able to read it and its folder"
)
_HINT = "The engine may be too old, damaged, or built for another system than this one."


def experiment(
    elves: Sequence[Elf], uid: int, gid: int, timeout: float, emulator: Emulator | None
) -> tuple[Layout, bool]:
    """(layout, whether another attempt would find the same)."""
    if emulator:
        timeout *= _EMULATED
    deadline = time.monotonic() + timeout
    symbols = _wanted(elves)
    used = sorted({index for index, _ in symbols.values()})
    name = next((elves[symbols[n][0]].path.name for n in REQUIRED if n in symbols), "")
    missing = [n for n in REQUIRED if n not in symbols]
    if missing:
        what = name or ", ".join(elf.path.name for elf in elves[:4]) or "no library"
        raise ProbeError(f"{what} could not describe itself: no {missing[0]} in it")
    home = elves[symbols["ggml_init"][0]]
    if home.type == _ET_EXEC or (home.interp and not home.soname):
        raise ProbeError(
            f"{name} could not describe itself: it is a program and cannot be loaded",
            "statically linked engines are not supported yet: use a build with shared libraries",
        )
    directories = list(dict.fromkeys(elves[index].path.parent for index in used))
    # The first is where loadable backends are looked for.
    first = elves[symbols["ggml_init"][0]].path.parent
    directories.sort(key=lambda directory: directory != first)
    request: dict[str, Any] = {
        "emulator": dataclasses.asdict(emulator) if emulator else None,
        "objects": [[directories.index(elves[i].path.parent), elves[i].path.name] for i in used],
        "directories": [str(directory.absolute()) for directory in directories],
        "symbols": {n: [used.index(index), value] for n, (index, value) in symbols.items()},
    }
    answer = ask({**request, "stage": "ggml"}, uid=uid, gid=gid, timeout=timeout)
    data = _checked(name, answer)
    final = answer.final
    if answer.failure:
        data["notes"] = [*data["notes"], f"backend: {answer.failure}"]
    ubatch: dict[str, Any] = {"ubatch": None, "notes": [f"ubatch: no {HOOKED} in this engine"]}
    if HOOKED in symbols and "llama_decode" in symbols:
        with tiny_model(VOCABULARY) as model:
            remaining = max(1.0, deadline - time.monotonic())
            answer = ask({**request, "stage": "ubatch", "model": f"/proc/self/fd/{model}"},
                         uid=uid, gid=gid, timeout=remaining, keep=[model])  # fmt: skip
        final = final and answer.final
        ubatch = answer.data or {}
        reason = answer.failure or ubatch.get("error")
        if "ubatch" not in ubatch or reason:
            ubatch = {"ubatch": None, "notes": [f"ubatch: {clean(str(reason), 300)}"]}
    notes = list(dict.fromkeys([*data["notes"], *_texts(ubatch.get("notes"))]))
    try:
        return Layout.from_dict({**data, "ubatch": ubatch["ubatch"], "notes": notes}), final
    except ProbeError:
        if ubatch["ubatch"] is None:
            raise ProbeError(
                f"{name} could not describe itself: {_why(data, notes)}", _HINT
            ) from None
    notes.append("ubatch: not all of it was found")
    return Layout.from_dict({**data, "ubatch": None, "notes": notes}), final


def _why(data: dict[str, Any], notes: Sequence[str]) -> str:
    try:
        Layout.from_dict({**data, "ubatch": None, "notes": []})
    except ProbeError as error:
        return "; ".join([error.message, *notes[:4]])
    return "; ".join(notes[:4])


def _texts(value: object) -> list[str]:
    """The texts of an untrusted list of notes, printable."""
    items = value[:64] if isinstance(value, list) else []
    return [clean(item, 400) for item in items if isinstance(item, str)]


def _checked(name: str, answer: Answer) -> dict[str, Any]:
    """The first stage's answer when it got as far as a layout, or ProbeError."""
    data = answer.data or {}
    notes = _texts(data.get("notes"))
    if "tensor" not in data:
        reason = data.get("error") or data.get("unreadable") or answer.failure
        text = "; ".join([clean(str(reason or "it gave no layout"), 300), *notes[:2]])
        hint = _UNREADABLE_HINT if "unreadable" in data else _HINT
        raise ProbeError(f"{name} could not describe itself: {text}", hint)
    return {**data, "notes": notes}


def _wanted(elves: Sequence[Elf]) -> dict[str, tuple[int, int]]:
    """(index of the file, value) of every function an experiment may call, by its plain name."""
    found: dict[str, tuple[int, int]] = {}
    for index, elf in enumerate(elves):
        for name in (*WANTED_GGML, *WANTED_LLAMA):
            if name in elf.symbols:
                found.setdefault(name, (index, elf.symbols[name].value))
        if "llama_decode" in elf.symbols:
            for symbol in elf.symbols.matching(_PROCESS_UBATCH)[:1]:
                found.setdefault(HOOKED, (index, symbol.value))
    return found
