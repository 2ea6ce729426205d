"""Names of events and presets, on PMUs as sysfs of various machines shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from profinfer.errors import UsageError
from profinfer.kernel.counters import Wanted, want
from profinfer.kernel.perf_events import MissingEvent, Source, parse_event
from profinfer.kernel.pmus import Pmus, read_pmus
from profinfer.kernel.presets import FILE, cpu_models, cpu_names, planned_pmus, presets

LITTLE, BIG = frozenset({0, 1, 2, 3}), frozenset({4, 5, 6, 7})


def pmu(
    folder: Path, name: str, number: int, events: dict[str, str], *, cpus: str = "", mask: str = "",
    formats: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """A PMU's folder in sysfs."""
    place = folder / name
    (place / "events").mkdir(parents=True)
    (place / "format").mkdir()
    (place / "type").write_text(f"{number}\n")
    for file, text in {"cpus": cpus, "cpumask": mask}.items():
        if text:
            (place / file).write_text(f"{text}\n")
    for event, terms in events.items():
        (place / "events" / event).write_text(f"{terms}\n")
    for term, bits in (formats or {"event": "config:0-15"}).items():
        (place / "format" / term).write_text(f"{bits}\n")


@pytest.fixture
def big_little(tmp_path: Path) -> Pmus:
    """An RK3588: four Cortex-A55, four Cortex-A76, a PMU of the memory controller."""
    common = {"cpu_cycles": "event=0x0011", "inst_retired": "event=0x0008"}
    pmu(tmp_path, "armv8_cortex_a55", 8, common, cpus="0-3")
    a76 = {**common, "mem_access_wr": "event=0x0067", "l3d_cache_refill": "event=0x002a"}
    pmu(tmp_path, "armv8_cortex_a76", 9, a76, cpus="4-7")
    pmu(tmp_path, "ddr", 10, {"cycles": "event=0x1"}, mask="0")
    return read_pmus(tmp_path)


@pytest.fixture
def intel(tmp_path: Path) -> Pmus:
    formats = {"event": "config:0-7", "umask": "config:8-15", "cmask": "config:24-31",
               "ldlat": "config1:0-15", "split": "config:32-33,40"}  # fmt: skip
    events = {"mem-loads": "event=0xcd,umask=0x1,ldlat=3", "slots": "event=0x00,umask=0x4"}
    pmu(tmp_path, "cpu", 4, events, formats=formats)
    return read_pmus(tmp_path)


@pytest.mark.parametrize(
    ("text", "kind", "config"),
    [
        ("cycles", "hardware", 0),
        ("LLC-load-misses", "hw-cache", 0x10002),
        ("L1-dcache-stores", "hw-cache", 0x100),
        ("page-faults", "software", 2),
        ("r20d1", "core", 0x20D1),
        ("mem-loads", "cpu", 0x1CD),
        ("cpu/event=0xa3,umask=4,cmask=4/", "cpu", 0x40004A3),
        ("cpu/slots,cmask=0x10/k", "cpu", 0x10000400),
        ("cpu/split=7/", "cpu", 0x10300000000),
    ],
)
def test_what_is_opened(text: str, kind: str, config: int, intel: Pmus) -> None:
    [source] = parse_event(text, intel).sources
    assert (source.pmu, source.config[0]) == (kind, config)


def test_words_beside_the_first(intel: Pmus) -> None:
    [source] = parse_event("cpu/mem-loads/", intel).sources
    assert source == Source("cpu", (0x1CD, 3, 0))


@pytest.mark.parametrize(
    ("text", "name", "exclude", "by_default"),
    [
        ("cycles", "cycles:u", "kh", True),
        ("cycles:uk", "cycles:uk", "h", False),
        ("instructions:k", "instructions:k", "uh", False),
        ("task-clock", "task-clock", "", False),
        ("cpu/slots/u", "cpu/slots/:u", "kh", False),
        ("cpu/slots,name=slots/", "slots:u", "kh", True),
    ],
)
def test_modes(text: str, name: str, exclude: str, by_default: bool, intel: Pmus) -> None:
    event = parse_event(text, intel)
    assert (event.name, event.exclude, event.by_default) == (name, exclude, by_default)


def test_each_kind_of_core_has_its_own_pmu(big_little: Pmus) -> None:
    cycles = parse_event("cpu_cycles", big_little).sources
    assert [source.pmu for source in cycles] == ["armv8_cortex_a55", "armv8_cortex_a76"]
    assert {source.config for source in cycles} == {(0x11, 0, 0)}
    refill = parse_event("l3d_cache_refill", big_little)
    assert refill.sources == (Source("armv8_cortex_a76", (0x2A, 0, 0)),)
    assert parse_event("r24", big_little).sources == (Source("core", (0x24, 0, 0)),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("l3d_cache_refil", "PMU armv8_cortex_a76 has cpu_cycles, inst_retired, l3d_cache_refill"),
        ("armv8_cortex_a55/l3d/", "PMU armv8_cortex_a55 has no event l3d; cpu_cycles, inst_ret"),
        ("armv8_cortex_a55/evnt=1/", "PMU armv8_cortex_a55 has no term evnt; it has event"),
        ("armv9/event=1/", "no PMU armv9; here are: armv8_cortex_a55 (2 named events), armv8_co"),
        ("ddr/cycles/", "PMU ddr counts for many CPUs together, and so for no thread"),
    ],
)
def test_what_is_missing_is_said_with_what_there_is(
    text: str, message: str, big_little: Pmus
) -> None:
    with pytest.raises(MissingEvent) as caught:
        parse_event(text, big_little)
    assert message in caught.value.message


@pytest.mark.parametrize("text", ["a b", "cycles:q", "cpu/slots", "cpu/event=x/", "cpu/event=256/"])
def test_what_is_no_name(text: str, intel: Pmus) -> None:
    with pytest.raises(UsageError):
        parse_event(text, intel)


def test_groups_and_lists(intel: Pmus) -> None:
    wanted = want(["{cycles,instructions},cpu/event=1,umask=2/,cycles", "page-faults"], intel, {})
    assert [(c.name, c.group) for c in wanted.counters] == [
        ("cycles:u", 0), ("instructions:u", 0), ("cpu/event=1,umask=2/:u", 1), ("page-faults", 3),
    ]  # fmt: skip
    assert [c.role for c in wanted.counters] == ["cycles", "instructions", "", ""]
    with pytest.raises(UsageError, match="17 counters are more than the 16"):
        want([",".join(f"r{n:x}" for n in range(17))], intel, {})


# ---- Presets

A55 = "processor\t: {}\nCPU implementer\t: 0x41\nCPU part\t: 0xd05\n\n"
A76 = "processor\t: {}\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\n"
SKYLAKE = "processor\t: {}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\n"
ZEN3 = "processor\t: {}\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 33\n\n"


def models(tmp_path: Path, *blocks: str) -> dict[int, frozenset[str]]:
    path = tmp_path / "cpuinfo"
    path.write_text("".join(block.format(cpu) for cpu, block in enumerate(blocks)))
    return cpu_models(path)


def told(wanted: Wanted) -> list[tuple[str, str, int, str, int]]:
    return [(c.name, c.unit, c.scale, c.role, c.group) for c in wanted.counters]


def test_memory_of_a_cortex_a76(big_little: Pmus, tmp_path: Path) -> None:
    found = models(tmp_path, *[A76] * 8)
    assert found[0] == {"cortex-a76"}
    wanted = want(["memory"], big_little, found)
    assert told(wanted) == [
        ("l3d_cache_refill:u", "bytes", 64, "memory_read", 0),
        ("mem_access_wr:u", "bytes", 16, "memory_write", 0),
    ]
    assert all("Cortex-A76 TRM" in counter.source for counter in wanted.counters)


def test_one_preset_on_two_kinds_of_core(big_little: Pmus, tmp_path: Path) -> None:
    """One counter, whichever core a thread is on."""
    wanted = want(["stalls"], big_little, models(tmp_path, *[A55] * 4, *[A76] * 4))
    assert [c.name for c in wanted.counters] == [
        "cycles:u", "instructions:u", "stall_backend:u", "stall_frontend:u",
    ]  # fmt: skip
    little, big = wanted.counters[2].event.sources
    assert (little.config, little.cpus) == ((0x24, 0, 0), LITTLE)
    assert (big.config, big.cpus) == ((0x24, 0, 0), BIG)


@pytest.mark.parametrize(
    ("cpu", "names"),
    [
        (SKYLAKE, ["cycles:u", "instructions:u", "cycle_activity.stalls_total:u",
                   "cycle_activity.stalls_l3_miss:u"]),
        (ZEN3, ["cycles:u", "instructions:u"]),
    ],
)  # fmt: skip
def test_stalls_of_x86(cpu: str, names: list[str], intel: Pmus, tmp_path: Path) -> None:
    wanted = want(["stalls"], intel, models(tmp_path, cpu, cpu))
    assert [c.name for c in wanted.counters] == names
    assert {c.group for c in wanted.counters} == {0}


def test_a_cpu_that_no_preset_knows(intel: Pmus) -> None:
    wanted = want(["memory,faults"], intel, {0: frozenset()})
    assert [c.name for c in wanted.counters] == ["page-faults", "major-faults"]
    [note] = wanted.notes
    assert note.startswith("preset memory does not know this CPU; it knows cortex-a55, ")


def test_a_plan_names_what_only_the_board_can_tell() -> None:
    cpus = {0: frozenset({"cortex-a76"})}
    wanted = want(["memory,sched:sched_switch"], planned_pmus("aarch64"), cpus, foreign=True)
    assert [c.name for c in wanted.counters] == [
        "l3d_cache_refill:u", "mem_access_wr:u", "sched:sched_switch",
    ]  # fmt: skip
    assert [s.pmu for c in wanted.counters for s in c.event.sources] == [
        "core", "core", "tracepoint",
    ]  # fmt: skip
    [source] = parse_event("l1d_cache", planned_pmus("aarch64"), foreign=True).sources
    assert source == Source("core", (4, 0, 0))


def test_every_entry_has_its_unit_and_source() -> None:
    entries = [
        entry
        for preset in yaml.safe_load(FILE.read_text())["presets"].values()
        for where in preset["where"]
        for group in where["groups"]
        for entry in group
    ]
    assert len(entries) >= 16
    assert all(entry["unit"] and len(entry["source"]) > 15 for entry in entries)
    known = set(cpu_names()) | {"any"}
    assert all(
        set(w["cpus"]) <= known or w["cpus"] == "any" for p in presets().values() for w in p.where
    )
