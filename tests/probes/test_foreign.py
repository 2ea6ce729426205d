"""Plans for arm64 made on another machine: by an emulated Python, judged by binutils and DWARF."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from profinfer.__main__ import main
from profinfer.binaries import sites
from profinfer.describing.roots import sysroot_variable
from profinfer.probes.ranks import RANKS
from tests.conftest import require
from tests.dwarf import members
from tests.probes.conftest import MakePlan, Plan
from tests.probes.objdump import KINDS, address_of, functions, instructions
from tests.recording.asked import LIFE, ROLES
from tests.recording.counter import PARTS


def _check_probes(plan: Plan, path: Path) -> int:
    """Every probe is where binutils find a fit instruction; how many are not at the symbol."""
    known = functions(path)
    later = 0
    for probe in plan["probes"]:
        where = f"{probe['symbol']} {probe}"
        start, size = known[probe["symbol"]]
        code = instructions(path, start, min(size, 256))
        address = address_of(path, probe["offset"])
        at = [i.address for i in code].index(address)
        probed, before = code[at], code[:at]
        assert probe["code"].startswith(probed.code), where
        kind = next((k for k, names in KINDS.items() if re.fullmatch(names, probed.name)), "")
        if probe["site"] == "stepped":
            assert kind in ("", "stp", "ldr-literal"), where
        else:
            assert probe["site"] == kind, where
        if probe["site"] == "stp":
            assert probed.operands[:2] == ["x29", "x30"], where
            assert probed.operands[-1].endswith("!"), where
        assert not [i for i in before if i.leaves() or i.writes_argument()], where
        both = [p for p in plan["probes"] if p["symbol"] == probe["symbol"]]
        if any(p["at_return"] for p in both):
            # The return address is still nowhere but in its register.
            assert not [i for i in before if i.names("x30")], where
        later += at > 0
    return later


def test_the_double(arm64: Path, sysroot: Path, make_plan: MakePlan) -> None:
    library = arm64 / "libknown.so"
    plan = make_plan("--target", library, "--sysroot", sysroot)
    assert plan["machine"] == "aarch64"
    asked = [p for p in plan["probes"] if p["handler"].startswith("on_call_")]
    names = {plan["interface"][int(p["handler"][8:])] for p in asked if not p["at_return"]}
    assert names == {*ROLES, *LIFE, *PARTS, "decode", "encode"}
    others = [p["handler"] for p in plan["probes"] if p not in asked]
    assert others == [
        "on_ubatch", "on_ubatch_return", "on_backend_graph", "on_backend_graph_return",
        "on_cpu_graph", "on_cpu_graph_return", "on_rebuild", "on_operator", "on_fused",
        "on_barrier",
    ]  # fmt: skip
    _check_probes(plan, library)
    parameters = plan["parameters"]
    for struct, prefix, fields in (
        ("ggml_tensor", "T", "type ne nb op op_params src view_src data name"),
        ("ggml_cgraph", "G", "n_nodes nodes"),
        ("ggml_backend", "B", "guid get_name"),
        ("llama_ubatch", "U", "n_tokens pos seq_id output"),
    ):
        found = members(library, struct)
        for field in fields.split():
            assert parameters[f"{prefix}_{field.upper()}"] == found[field], field
    assert (parameters["T_NAME_SIZE"], parameters["T_SOURCES"]) == (48, 6)
    known = functions(library)
    named = {b["name"]: b["vaddr"] for b in plan["backends"]}
    assert named["CPU"] == known["ggml_backend_cpu_get_name"][0]
    assert named["fake"] == known["ggml_backend_fake_get_name"][0]


def test_the_double_is_as_on_this_machine(
    arm64: Path, native: Path, sysroot: Path, make_plan: MakePlan
) -> None:
    """The same source has the same layout on both, and the same functions are probed."""
    there = make_plan("--target", arm64 / "libknown.so", "--sysroot", sysroot)
    here = make_plan("--target", native / "libknown.so")
    assert there["parameters"] == here["parameters"]
    assert there["start"]["layout"] == here["start"]["layout"]
    keys = ("object", "symbol", "handler", "level", "at_return", "required", "via")
    assert [[p[k] for k in keys] for p in there["probes"]] == [
        [p[k] for k in keys] for p in here["probes"]
    ]


def test_a_real_engine(xllamacpp: Path, sysroot: Path, make_plan: MakePlan) -> None:
    """The wheel for this machine, of the same version, says the same of itself."""
    plan = make_plan("--target", xllamacpp, "--sysroot", sysroot)
    assert _check_probes(plan, xllamacpp) >= 3
    sites = {p["handler"]: p["site"] for p in plan["probes"]}
    # What this build offers: ggml_barrier overwrites its argument at once.
    assert (sites["on_operator"], sites["on_fused"], sites["on_barrier"]) == ("b", "cbz", "stepped")
    assert plan["start"]["layout"]["notes"] == []
    assert "CPU" in [b["name"] for b in plan["backends"]]
    spec = importlib.util.find_spec("xllamacpp")
    require("the xllamacpp wheel", spec and spec.origin)
    assert spec is not None
    own = next(Path(str(spec.origin)).parent.glob("xllamacpp*.so"))
    here = make_plan("--target", own)
    assert here["machine"] != plan["machine"]
    assert here["parameters"] == plan["parameters"]
    assert here["start"]["layout"] == plan["start"]["layout"]


def test_the_sysroot_may_come_from_the_environment(
    arm64: Path, sysroot: Path, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sysroot_variable("aarch64"), str(sysroot))
    assert make_plan("--target", arm64 / "libknown.so")["machine"] == "aarch64"


def test_what_was_learnt_is_kept(
    arm64: Path, sysroot: Path, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_plan("--target", arm64 / "libknown.so", "--sysroot", sysroot)
    monkeypatch.setattr(
        "profinfer.describing.search.ask", lambda *_, **__: pytest.fail("asked again")
    )
    assert make_plan("--target", arm64 / "libknown.so", "--sysroot", sysroot) == first


def test_neighbours_are_found_in_the_files_folders(
    arm64: Path, sysroot: Path, make_plan: MakePlan, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A library that needs another by name is loaded with what lies beside it."""
    sources = Path(__file__).parents[1] / "double"
    folder = tmp_path / "lib"
    folder.mkdir()
    folder.chmod(0o755)
    build = ["aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-L", str(folder)]
    needed, library = folder / "libneeded.so", folder / "libknown.so"
    for command in (
        ["-DOTHER_LIB", "-Wl,-soname,libneeded.so", "-o", needed, sources / "other.c"],
        ["-o", library, sources / "ggml.c", "-Wl,--no-as-needed", "-lneeded"],
    ):
        subprocess.run([*build, *map(str, command)], check=True, timeout=60)
    plan = make_plan("--target", library, "--sysroot", sysroot)
    assert plan["parameters"] == make_plan(
        "--target", arm64 / "libknown.so", "--sysroot", sysroot
    )["parameters"]  # fmt: skip
    needed.unlink()
    (tmp_path / "cache").rename(tmp_path / "old-cache")
    capsys.readouterr()
    output = tmp_path / "none.json"
    code = main(["plan", "--target", str(library), "--sysroot", str(sysroot), "-o", str(output)])
    assert code == 6
    assert "libneeded.so: cannot open shared object" in capsys.readouterr().err
    assert not output.exists()


def test_doctor_says_what_can_be_planned(
    arm64: Path, sysroot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(arm64 / "libknown.so"), "--sysroot", str(sysroot)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^ok +files +for aarch64: .*profinfer plan", said, re.MULTILINE)
    assert "cost not measured" in said
    assert re.search(r"^ok +layout +ggml 0\.0\.7-known: 17 ops", said, re.MULTILINE)
    assert "FAILS" not in said
    assert "capabilities" not in said, "this machine has no part in it"
    assert main(["doctor", str(arm64 / "libknown.so")]) == 2
    said = capsys.readouterr().out
    assert re.search(r"^ok +probe points", said, re.MULTILINE)
    assert re.search(r"^FAILS +layout .*aarch64.*\n.*hint: .*--sysroot", said, re.MULTILINE)


@pytest.mark.parametrize("machine", RANKS)
def test_every_kind_of_site_has_a_rank(machine: str) -> None:
    kinds = {kind for *_, kind in sites._ARM_KINDS} - set(sites._ARM_REFUSED) | {"stepped"}
    if machine == "x86-64":
        kinds = {"nop1", "nop5", "nop10", "push", "jcc", "jmp", "call", "stepped"}
    assert set(RANKS[machine]) == kinds
