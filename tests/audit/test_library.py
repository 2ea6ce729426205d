"""The audit library itself: what it answers a loader, and what it is made of."""

from __future__ import annotations

import ctypes
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from profinfer import built
from profinfer.binaries.elf import Elf
from profinfer.engine import audit_library
from tests.audit.conftest import Compile
from tests.audit.process import SITES
from tests.conftest import require

BIND_TO, BIND_FROM = 1, 2
_DLINFO_LINK_MAP = 2


@pytest.fixture(scope="module")
def library(libraries: dict[str, Path]) -> ctypes.CDLL:
    require("an audit library for this machine", platform.machine() in libraries)
    return ctypes.CDLL(str(built.AUDIT))


def _flags(library: ctypes.CDLL, path: Path) -> int:
    """What la_objopen() wants of an object."""
    handle = ctypes.CDLL(str(path))._handle
    link_map, cookie = ctypes.c_void_p(), ctypes.c_size_t(1)
    dlinfo = ctypes.CDLL(None).dlinfo
    assert dlinfo(ctypes.c_void_p(handle), _DLINFO_LINK_MAP, ctypes.byref(link_map)) == 0
    flags = int(library.la_objopen(link_map, ctypes.c_long(0), ctypes.byref(cookie)))
    assert cookie.value == link_map.value
    library.la_objclose(ctypes.byref(cookie))
    return flags


def test_loaders_that_would_make_calls_slow_are_told_to_leave_it_out(library: ctypes.CDLL) -> None:
    assert [library.la_version(version) for version in (0, 1, 2, 3)] == [0, 0, 2, 2]


def test_bindings_are_asked_for_only_where_hot_functions_are(
    library: ctypes.CDLL, engine: Path, compiled: Compile
) -> None:
    caller = compiled(
        "libcaller.so", "void ggml_barrier(void);\nvoid f(void) { ggml_barrier(); }",
        f"-L{engine.parent}", "-lengine", "-Wl,-rpath,$ORIGIN",
    )  # fmt: skip
    variable = compiled("libvariable.so", "int ggml_barrier = 3;")
    similar = compiled("libsimilar.so", "void ggml_barriers(void) {}\nvoid ggml_barrie(void) {}")
    empty = compiled("libempty.so", "", "-nostdlib")
    wanted = {engine: BIND_TO | BIND_FROM, caller: BIND_FROM, variable: 0, similar: 0, empty: 0}
    assert {path: _flags(library, path) for path in wanted} == wanted
    assert _flags(library, Path("libc.so.6")) == 0


def test_it_needs_nothing(libraries: dict[str, Path]) -> None:
    require("nm (binutils)", shutil.which("nm"))
    assert libraries
    for path in libraries.values():
        listed = subprocess.run(
            ["nm", "-D", "--undefined-only", path], capture_output=True, text=True, check=True
        )
        assert listed.stdout == ""
        assert Elf(path).needed == []


def test_building_again_changes_nothing(repo: Path, libraries: dict[str, Path]) -> None:
    before = {path: path.stat() for path in libraries.values()}
    subprocess.run([repo / "tools/build_audit.sh"], check=True, timeout=60)
    assert {path: path.stat().st_ino for path in before} == {
        path: status.st_ino for path, status in before.items()
    }


def test_the_functions_are_those_of_the_source(repo: Path) -> None:
    source = (repo / "audit/audit.c").read_text()
    table = source.partition("hot[] = {")[2].partition("}")[0]
    assert [part.strip().strip('"') for part in table.split(",") if part.strip()] == list(
        audit_library.FUNCTIONS
    )


def test_stubs_of_both_machines(libraries: dict[str, Path]) -> None:
    require("gcc-aarch64-linux-gnu", "aarch64" in libraries)
    for machine, path in libraries.items():
        elf = Elf(path)
        [code] = elf.dynamic_named(audit_library.STUBS_SYMBOL).values()
        assert (code.value % 64, code.size) == (0, 48 * 64)
        for stub in range(48):
            data = elf.code_at(code.value + 64 * stub, 64)
            if machine == "aarch64":
                words = struct.unpack_from("<16I", data)
                assert words[:3] == (0xD503245F, 0xD503201F, 0x14000001), "bti c, nop, b"
                assert words[5] & 0xFF00001F == 0xB5000010, "cbnz x16"
                assert (words[8], words[9]) == (0xD61F0200, 0), "br x16"
                assert words[10:] == (*words[1:3], *words[6:9], 0)
            else:
                nops = ["90", "0f1f440000", "662e0f1f840000000000"]
                assert [data[start:end].hex() for start, end in ((4, 5), (5, 10), (10, 20))] == nops
                assert data[:4] == bytes.fromhex("f30f1efa")
                parts = [data[start:end].hex() for start, end in ((20, 23), (27, 30), (34, 36))]
                assert parts == ["48833d", "000f85", "ff25"], "cmpq, jne, jmp"
                assert data[40:58].hex() == "".join(nops) + "ff25"
                jumps = [struct.unpack_from("<i", data, at)[0] + at for at in (36, 58)]
                assert jumps[0] == jumps[1]
                assert data[62:] == b"\xcc" * 2
        # Their code is also what profinfer expects of a stranger's library.
        assert audit_library.open_library(path)
    assert set(SITES) == {"x86_64", "aarch64"}


def test_on_arm64(libraries: dict[str, Path], compiled: Compile) -> None:
    emulator = shutil.which("qemu-aarch64")
    root = Path("/usr/aarch64-linux-gnu")
    require("an emulator of arm64 (qemu-user)", emulator)
    require("gcc-aarch64-linux-gnu", "aarch64" in libraries and root.is_dir())
    compiler = "aarch64-linux-gnu-gcc"
    for name, flag in (("lazy", "-Wl,-z,lazy"), ("now", "-Wl,-z,now")):
        engine = compiled(f"libarm64{name}.so", "engine.c", flag, compiler=compiler)
        program = compiled("arm64", "driver.c", compiler=compiler)
        commands = f"open {engine}\nrun 0 4 101 13 509\ncounts 0\npointer 0 3\ncounts 0\nexit\n"
        done = subprocess.run(
            [str(emulator), "-L", root, "-E", f"LD_AUDIT={libraries['aarch64']}", program],
            input=commands, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        assert lines[:4] == ["ready", "0", "0 0", "404 52 2036"]
        # The pointer is the third function's first stub.
        assert int(lines[4], 16) % 4096 == _third(libraries["aarch64"]) % 4096
        assert lines[5] == "404 52 2039"


def _third(path: Path) -> int:
    """Address of the first stub of the third function, as linked."""
    [code] = Elf(path).dynamic_named(audit_library.STUBS_SYMBOL).values()
    return code.value + 2 * 16 * 64
