"""Writes profinfer/describing/known_layouts.json anew from a clone of ggml: how its structs have
looked since 2023, for engines that cannot be loaded and asked (profinfer/describing/inferred.py).

    python tools/known_layouts.py CLONE

Each state of the headers in which a struct differs is compiled, and the compiler says where its
fields stand. Needs git and a C compiler.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parents[1] / "profinfer/describing/known_layouts.json"
_HEADERS = ("include/ggml.h", "include/ggml/ggml.h", "src/ggml-impl.h", "src/ggml-backend-impl.h")
_SINCE = "2023-07-01"
"""Before, tensors had no op_params."""

_NOISE = r'//.*|/\*.*?\*/|GGML_DEPRECATED\(|,\s*"[^"]*"\)'

_PROGRAM = r"""
#include <stddef.h>
#include <stdio.h>
#include "ggml.h"
#include "ggml-impl.h"
#include "ggml-backend-impl.h"
#define MEMBER(type, name, field)                                                                  \
  printf("%s %s %zu %zu\n", name, #field, offsetof(struct type, field),                            \
         sizeof(((struct type *)0)->field))
int main(void) {
"""
_FIELDS = {
    "tensor": ("type", "buffer", "ne", "nb", "op", "op_params", "flags", "src", "view_src",
               "view_offs", "data", "name"),
    "cgraph": ("n_nodes", "nodes", "uid"),
    "backend": ("guid",),
}  # fmt: skip


def main() -> None:
    """As the module says."""
    [clone] = sys.argv[1:]
    states: dict[str, dict[str, Any]] = {}
    known: dict[tuple[str, ...], str] = {}
    for commit, date in _commits(clone):
        texts = tuple(_git(clone, "show", f"{commit}:{path}") for path in _HEADERS)
        key = _structs("".join(texts))
        if key not in known:
            try:
                known[key] = json.dumps(_layout(clone, commit, key))
            except subprocess.CalledProcessError:
                print(f"{commit} of {date} does not compile", file=sys.stderr)  # the next one may
                continue
        state = states.setdefault(known[key], {"since": date, "commit": commit})
        state["until"] = date
    found = [state | json.loads(text) for text, state in states.items() if text != "null"]
    lines = ",\n".join(json.dumps(state) for state in found)
    OUTPUT.write_text(f"[\n{lines}\n]\n")


def _git(clone: str, *words: str) -> str:
    words = ("git", "-C", clone, *words)
    return subprocess.run(words, capture_output=True, text=True, errors="replace").stdout


def _commits(clone: str) -> list[list[str]]:
    lines = _git(clone, "log", "--first-parent", "--reverse", "--format=%h %cd", "--date=short",
                 f"--since={_SINCE}", "--", *_HEADERS)  # fmt: skip
    return [line.split() for line in lines.splitlines()]


def _struct(text: str, name: str) -> str:
    found = re.search(rf"^ *struct {name} \{{.*?^ *\}};", text, re.S | re.M)
    return re.sub(_NOISE, "", found[0]) if found else ""


def _structs(text: str) -> tuple[str, ...]:
    names = ("ggml_tensor", "ggml_cgraph", "ggml_hash_set", "ggml_backend", "ggml_backend_i")
    numbers = sorted(set(re.findall(r"#define GGML_MAX_\w+ +\d+", text)))
    return (*(_struct(text, name) for name in names), *numbers)


def _layout(clone: str, commit: str, structs: tuple[str, ...]) -> dict[str, Any] | None:
    """Where the fields stand; None where there is one missing that profinfer needs."""
    tensor, cgraph, _, backend, methods, *_ = structs
    if "op_params" not in tensor or not re.search(r"\*\* *nodes;", cgraph):
        return None
    is_named = re.search(r"\bguid;", backend) and "get_name" in methods
    texts = {"tensor": tensor, "cgraph": cgraph, "backend": backend if is_named else ""}
    lines = [_PROGRAM]
    for name, text in texts.items():
        lines += [
            f'MEMBER(ggml_{name}, "{name}", {member});'
            for member in re.findall(r"(\w+) *(?:\[[^]]*\] *)*;", text)
            if member not in ("iface", "device", "context")
        ]
        lines += [f'printf("{name} sizeof 0 %zu\\n", sizeof(struct ggml_{name}));'] if text else []
    if is_named:
        lines += ['MEMBER(ggml_backend, "backend", iface.get_name);']
    members: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in texts}
    for line in _run(clone, commit, "\n".join([*lines, "}"])).splitlines():
        name, member, offset, size = line.split()
        members[name][member.removeprefix("iface.")] = int(offset), int(size)
    return {name: _struct_json(name, found) for name, found in members.items()}


def _struct_json(name: str, members: dict[str, tuple[int, int]]) -> dict[str, Any] | None:
    """A struct's fields, its size and, as [offset, size], what else is in it."""
    if not members:
        return None
    found: dict[str, Any] = {
        field: members[field][0] for field in members if field in _FIELDS[name]
    }
    _, size = members.pop("sizeof")
    rest = [place for member, place in members.items() if member not in found]
    if name == "tensor":
        found |= {
            "op_params_size": members["op_params"][1], "name_size": members["name"][1],
            "max_src": members["src"][1] // 8,
        }  # fmt: skip
    if name == "backend":
        found["get_name"] = members["get_name"][0]
        # The next method: how many there are changes often, and nothing hangs on it.
        rest, size = [(found["get_name"] + 8, 8)], found["get_name"] + 16
    return {**found, "size": size, "rest": sorted(rest)}


def _run(clone: str, commit: str, program: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        archive = ["git", "-C", clone, "archive", commit, "include", "src"]
        tar = subprocess.run(archive, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=tar, check=True)
        (Path(folder) / "offsets.c").write_text(program)
        flags = [f"-I{folder}/{part}" for part in ("include", "include/ggml", "src")]
        # Some of these headers want what their .c file has included before.
        flags += ["-O1", "-w", "-include", "stdbool.h", "-include", "string.h", "-D_GNU_SOURCE"]
        subprocess.run(["cc", *flags, f"{folder}/offsets.c", "-o", f"{folder}/offsets"], check=True)
        return subprocess.run([f"{folder}/offsets"], stdout=subprocess.PIPE, text=True,
                              check=True).stdout  # fmt: skip


if __name__ == "__main__":
    main()
