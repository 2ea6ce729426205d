"""libbpf: loads the objects that tools/build_bpf.sh has compiled. No compiler, no kernel headers.

The library comes by ctypes: a handful of its functions is all that is needed.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import platform
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from profinfer.errors import KernelError
from profinfer.programs import BPF_DIR, KPROBE, Programs, Source

BUILD = BPF_DIR.parent / "build" / platform.machine()
_LIBRARY = "libbpf.so.1"
_FILES = {("profinfer", 0): "profinfer.bpf.o", ("profinfer", 1): "profinfer-perf.bpf.o",
          ("scheduler", 0): "scheduler.bpf.o", ("scheduler", 1): "scheduler-perf.bpf.o",
          ("launch", None): "launch.bpf.o"}  # fmt: skip
_PARAMETERS = ".rodata"
_TAIL = 8
"""Lines of what the kernel said that an error shows."""
_MAX_OBJECT = 16 << 20

_POINTER, _INT, _U32, _STRING = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_char_p
_SIZE = ctypes.POINTER(ctypes.c_size_t)
_FUNCTIONS: dict[str, tuple[object, list[object]]] = {
    "bpf_object__open_mem": (_POINTER, [_STRING, ctypes.c_size_t, _POINTER]),
    "bpf_object__load": (_INT, [_POINTER]),
    "bpf_object__close": (None, [_POINTER]),
    "bpf_object__btf": (_POINTER, [_POINTER]),
    "bpf_object__next_map": (_POINTER, [_POINTER, _POINTER]),
    "bpf_object__next_program": (_POINTER, [_POINTER, _POINTER]),
    "bpf_map__name": (_STRING, [_POINTER]),
    "bpf_map__fd": (_INT, [_POINTER]),
    "bpf_map__set_max_entries": (_INT, [_POINTER, _U32]),
    "bpf_map__initial_value": (_POINTER, [_POINTER, _SIZE]),
    "bpf_map__set_initial_value": (_INT, [_POINTER, _STRING, ctypes.c_size_t]),
    "bpf_program__name": (_STRING, [_POINTER]),
    "bpf_program__fd": (_INT, [_POINTER]),
    "bpf_program__set_autoload": (_INT, [_POINTER, ctypes.c_bool]),
    "bpf_program__set_expected_attach_type": (_INT, [_POINTER, _INT]),
    "btf__find_by_name": (_INT, [_POINTER, _STRING]),
    "btf__type_by_id": (_POINTER, [_POINTER, _U32]),
    "btf__name_by_offset": (_STRING, [_POINTER, _U32]),
}
_PRINT = ctypes.CFUNCTYPE(_INT, _INT, _POINTER, _POINTER)


class _Library:
    """libbpf itself, and what it has said: it would print that on our stderr."""

    def __init__(self) -> None:
        try:
            self.call = ctypes.CDLL(_LIBRARY, use_errno=True)
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(self.call, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise KernelError(
                f"libbpf cannot be used: {error}", "apt-get install libbpf1, or --loader bcc"
            ) from None
        self.said: list[str] = []
        # Its va_list can only be handed on, to a C function of that kind.
        self._format = ctypes.CDLL(None).vsnprintf
        self._format.argtypes = [_STRING, ctypes.c_size_t, _POINTER, _POINTER]
        self._print = _PRINT(self._on_print)
        self.call.libbpf_set_print(self._print)

    def _on_print(self, level: int, text: int, arguments: int) -> int:
        if level == 0:  # warnings; what the verifier says is one
            buffer = ctypes.create_string_buffer(1 << 20)
            self._format(buffer, len(buffer), text, arguments)
            self.said += buffer.value.decode("utf-8", "replace").splitlines()
        return 0


@cache
def _library() -> _Library:
    return _Library()


def missing() -> str:
    """Why libbpf cannot load the handlers here; empty when it can."""
    try:
        _library()
        for name in _FILES.values():
            _read(BUILD / name)
    except KernelError as error:
        return error.message
    return ""


def load_libbpf(source: Source) -> Programs:
    """Loads the programs of a source. KernelError with the verifier's last lines when the kernel
    refuses one of them."""
    library = _library()
    path = BUILD / _FILES[source.name, source.transport]
    data = _read(path)
    library.said.clear()
    opened = library.call.bpf_object__open_mem(data, len(data), None)
    if not opened:
        raise _explain(f"{path} is not a whole BPF object", library.said)
    try:
        maps = dict(_maps(library, opened))
        for name, count in source.entries.items():
            library.call.bpf_map__set_max_entries(maps[name], count)
        [rodata] = [item for name, item in maps.items() if name.endswith(_PARAMETERS)]
        _set_parameters(library, opened, rodata, source.parameters)
        programs = dict(_programs(library, opened))
        for name, program in programs.items():
            if name not in source.programs:
                library.call.bpf_program__set_autoload(program, False)
            elif source.programs[name] == KPROBE:
                library.call.bpf_program__set_expected_attach_type(program, source.attach_type)
        if library.call.bpf_object__load(opened):
            raise _explain(f"the kernel refuses the programs of {path}", library.said)
        return Programs(
            {name: _keep(library.call.bpf_program__fd(programs[name])) for name in source.programs},
            {name: _keep(library.call.bpf_map__fd(maps[name])) for name in source.maps},
        )
    finally:
        library.call.bpf_object__close(opened)


def _read(path: Path) -> bytes:
    """An object of ours, made of the sources that stand in bpf/. KernelError when it is not."""
    hint = "make setup builds it"
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_OBJECT)
    except OSError as error:
        raise KernelError(f"cannot read {path}: {error.strerror}", hint) from None
    if f"profinfer-bpf {_digest()}".encode() not in data:
        raise KernelError(f"{path} was not made of the sources in {BPF_DIR}", hint)
    return data


@cache
def _digest() -> str:
    """Of the sources, as tools/build_bpf.sh computes it."""
    files = sorted(BPF_DIR.glob("*.h")) + sorted(BPF_DIR.glob("*.bpf.c"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _maps(library: _Library, opened: int) -> Iterator[tuple[str, int]]:
    item = library.call.bpf_object__next_map(opened, None)
    while item:
        yield library.call.bpf_map__name(item).decode(), item
        item = library.call.bpf_object__next_map(opened, item)


def _programs(library: _Library, opened: int) -> Iterator[tuple[str, int]]:
    item = library.call.bpf_object__next_program(opened, None)
    while item:
        yield library.call.bpf_program__name(item).decode(), item
        item = library.call.bpf_object__next_program(opened, item)


def _set_parameters(
    library: _Library, opened: int, rodata: int, parameters: Mapping[str, int]
) -> None:
    """Sets all of the object's parameters, and no others. Where each stands its BTF says."""
    size = ctypes.c_size_t()
    value = library.call.bpf_map__initial_value(rodata, ctypes.byref(size))
    data = bytearray(ctypes.string_at(value, size.value))
    offsets = dict(_variables(library, opened))
    if offsets.keys() != parameters.keys():
        raise ValueError(f"parameters {sorted(offsets.keys() ^ parameters.keys())} are amiss")
    for name, offset in offsets.items():
        struct.pack_into("<i", data, offset, parameters[name])
    library.call.bpf_map__set_initial_value(rodata, bytes(data), len(data))


def _variables(library: _Library, opened: int) -> Iterator[tuple[str, int]]:
    """Names and offsets in the section of the parameters (struct btf_type, btf_var_secinfo)."""
    btf = library.call.bpf_object__btf(opened)
    section = library.call.btf__type_by_id(
        btf, library.call.btf__find_by_name(btf, _PARAMETERS.encode())
    )
    (info,) = struct.unpack("<I", ctypes.string_at(section + 4, 4))
    count = info & 0xFFFF
    for kind, offset, _ in struct.iter_unpack("<III", ctypes.string_at(section + 12, 12 * count)):
        variable = library.call.btf__type_by_id(btf, kind)
        (name,) = struct.unpack("<I", ctypes.string_at(variable, 4))
        yield library.call.btf__name_by_offset(btf, name).decode(), offset


def _keep(fd: int) -> int:
    """A descriptor of our own: closing the object closes its."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)


def _explain(what: str, said: list[str]) -> KernelError:
    """With the last lines of what libbpf, or the verifier through it, said."""
    lines = [line for line in said if line.strip() and "PROG LOAD LOG" not in line]
    tail = "\n".join(lines[-_TAIL:])
    return KernelError(f"{what}:\n{tail}" if tail else what, "--loader bcc compiles them here")
