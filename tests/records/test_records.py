"""bpf/records.h, as a C compiler sees it, against the dtypes of profinfer/records/dtypes.py."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from profinfer.records import dtypes, limits
from profinfer.records.dtypes import Kind, SchedulerKind

_TYPES = ("__u8", "__u16", "__u32", "__u64", "__s8", "__s16", "__s32", "__s64")
_LETTERS = {"u": "u", "s": "i"}

# Of the recorder and its handlers alone: no bytes of these reach a capture.
_IN_MEMORY = {"control", "loss", "ring_head", "scheduler_control"}

Field = tuple[int, int, str]
"""Offset, size, and element type: numpy's ("u8", "i4"), "char", or "struct"."""


def _structs(header: str) -> dict[str, list[str]]:
    """Names of every struct's fields, in order."""
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    found = {}
    for name, body in re.findall(r"struct (\w+) \{(.*?)\};", code, re.DOTALL):
        declarations = [text.strip() for text in body.split(";") if text.strip()]
        found[name] = [re.sub(r"\[.*", "", text).split()[-1] for text in declarations]
    return found


def _program(structs: dict[str, list[str]], enumerators: list[str], macros: list[str]) -> str:
    typedefs = [
        f"typedef {'u' if t[2] == 'u' else ''}int{t[3:]}_t {t};  // as linux/types.h"
        for t in _TYPES
    ]
    cases = [f'{t}: "{t}", {t} *: "{t}"' for t in _TYPES]
    body = []
    for struct, names in structs.items():
        body.append(f'printf("struct {struct} %zu\\n", sizeof(struct {struct}));')
        for name in names:
            body.append(
                f'printf("field {struct} {name} %zu %zu %s\\n", offsetof(struct {struct}, {name}),'
                f" sizeof(((struct {struct} *)0)->{name}), TYPE(((struct {struct} *)0)->{name}));"
            )
    body += [f'printf("enum {name} %d\\n", {name});' for name in enumerators]
    body += [f'printf("macro {name} %d\\n", {name});' for name in macros]
    return "\n".join(
        [
            "#include <stddef.h>",
            "#include <stdint.h>",
            "#include <stdio.h>",
            *typedefs,
            '#include "records.h"',
            f'#define TYPE(x) _Generic((x), {", ".join(cases)}, char *: "char", default: "struct")',
            "int main(void) {",
            *body,
            "return 0;",
            "}",
        ]
    )


class Compiled:
    """What the compiler says about the header."""

    def __init__(self, header: Path, folder: Path) -> None:
        text = header.read_text()
        self.structs = _structs(text)
        enumerators = re.findall(r"\b(KIND_\w+) =", text)
        macros = re.findall(r"#define (\w+) \d+$", text, re.MULTILINE)
        source, program = folder / "layout.c", folder / "layout"
        source.write_text(_program(self.structs, enumerators, macros))
        subprocess.run(
            ["gcc", "-std=c11", "-Wall", "-Werror", f"-I{header.parent}", "-o", program, source],
            check=True,
            timeout=60,
        )
        lines = subprocess.run(
            [program], check=True, timeout=10, capture_output=True, text=True
        ).stdout.splitlines()
        self.sizes: dict[str, int] = {}
        self.fields: dict[str, dict[str, Field]] = {name: {} for name in self.structs}
        self.enum: dict[str, int] = {}
        self.macros: dict[str, int] = {}
        for line in lines:
            what, *rest = line.split()
            if what == "struct":
                self.sizes[rest[0]] = int(rest[1])
            elif what == "field":
                kind = re.sub(r"__([us])(\d+)", _numpy_type, rest[4])
                self.fields[rest[0]][rest[1]] = (int(rest[2]), int(rest[3]), kind)
            else:
                (self.enum if what == "enum" else self.macros)[rest[0]] = int(rest[1])


def _numpy_type(match: re.Match[str]) -> str:
    return f"{_LETTERS[match[1]]}{int(match[2]) // 8}"


def _dtypes() -> dict[str, np.dtype[np.void]]:
    """The dtypes of profinfer/records/dtypes.py under the names that their structs have in C."""
    return {
        name.lower(): value for name, value in vars(dtypes).items() if isinstance(value, np.dtype)
    }


def _dtype_fields(dtype: np.dtype[np.void]) -> dict[str, Field]:
    assert dtype.fields is not None
    found = {}
    for name, (field, offset, *_) in dtype.fields.items():
        element = field.base
        kind = {"S": "char", "V": "struct" if element.names else "u1"}.get(
            element.kind, f"{element.kind}{element.itemsize}"
        )
        found[name] = (offset, field.itemsize, kind)
    return found


@pytest.fixture(scope="module")
def compiled(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled(repo / "bpf/records.h", tmp_path_factory.mktemp("records"))


def test_every_struct_of_a_capture_has_a_dtype_and_every_dtype_a_struct(compiled: Compiled) -> None:
    assert set(_dtypes()) | _IN_MEMORY == set(compiled.structs)
    assert not set(_dtypes()) & _IN_MEMORY


def test_every_struct_has_the_size_of_its_dtype(compiled: Compiled) -> None:
    sizes = {name: size for name, size in compiled.sizes.items() if name not in _IN_MEMORY}
    assert {name: dtype.itemsize for name, dtype in _dtypes().items()} == sizes


@pytest.mark.parametrize("name", sorted(_dtypes()))
def test_fields_have_the_same_order_offset_size_and_type(name: str, compiled: Compiled) -> None:
    assert list(_dtype_fields(_dtypes()[name]).items()) == list(compiled.fields[name].items())


@pytest.mark.parametrize("name", sorted({*_dtypes(), *_IN_MEMORY}))
def test_no_struct_has_padding_that_would_carry_kernel_memory(
    name: str, compiled: Compiled
) -> None:
    assert sum(size for _, size, _ in compiled.fields[name].values()) == compiled.sizes[name]


def test_nested_dtypes_are_the_structs_that_the_header_names() -> None:
    for dtype in _dtypes().values():
        if "header" in (dtype.names or ()):
            assert dtype["header"] == dtypes.WIDE_HEADER
    assert dtypes.TOKENS_RECORD["run"].base == dtypes.TOKEN_RUN


def test_kinds_are_the_enumerators_of_the_header(compiled: Compiled) -> None:
    kinds = {f"KIND_{kind.name}": kind.value for kind in (*Kind, *SchedulerKind)}
    assert kinds | {"KIND_COUNT": dtypes.KIND_COUNT} == compiled.enum


def test_the_schedulers_kinds_are_counted_from_the_first() -> None:
    first = dtypes.FIRST_SCHEDULER_KIND
    assert list(SchedulerKind) == list(range(first, first + dtypes.SCHEDULER_KINDS))
    assert first >= dtypes.KIND_COUNT


def test_constants_are_the_macros_of_the_header(compiled: Compiled) -> None:
    here = vars(limits) | vars(dtypes)
    assert {name: here.get(name) for name in compiled.macros} == compiled.macros
    assert {"WIDE_SIZE", "NAME_SIZE", "SOURCES", "RUNS", "EXPERT_VALUES"} <= set(compiled.macros)


def test_every_wide_record_fits_into_a_row_of_the_structure_ring(compiled: Compiled) -> None:
    wide = [name for name, fields in compiled.structs.items() if "header" in fields]
    assert sorted(wide) == [
        "call_record", "experts_record", "structure_record", "tensor_record", "tokens_record",
    ]  # fmt: skip
    assert max(compiled.sizes[name] for name in wide) == dtypes.WIDE_SIZE


def test_wide_kinds_are_those_the_header_calls_wide(repo: Path, tmp_path: Path) -> None:
    source = tmp_path / "wide.c"
    source.write_text(
        "#include <stdint.h>\n#include <stdio.h>\n#include <linux/types.h>\n"
        '#include "records.h"\nint main(void) {\n'
        'for (int i = 0; i < 64; i++) if (is_wide(i)) printf("%d\\n", i);\nreturn 0; }'
    )
    subprocess.run(
        ["gcc", f"-I{repo}/bpf", "-o", tmp_path / "wide", source], check=True, timeout=60
    )
    found = subprocess.run([tmp_path / "wide"], check=True, capture_output=True, text=True).stdout
    assert [int(line) for line in found.split()] == list(dtypes.WIDE_KINDS)
