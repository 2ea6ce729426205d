"""The house: wings by noun, from the ground up, and nothing imports upward."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.trace_processor.session import SQL_DIR, sql_modules
from tests.conftest import REPO

WINGS = (
    "records", "kernel", "binaries", "engine", "describing", "probes", "recording", "trace",
    "scheduling", "requests", "converting", "trace_processor", "ui", "merging", "drawing",
    "commands",
)  # fmt: skip
"""A wing may import those before it, and what stands directly in profinfer/: the ground."""
ROOF = "profinfer/__main__.py"
HOUSE = REPO / "profinfer"
OTHER_TESTS = {
    "audit", "backends", "double", "emulated", "engines", "fuzz", "recorder", "recorder_units",
    "sql", "tools",
}  # fmt: skip
"""Folders of tests that are named after what is no wing: C programs, tools, SQL, machines."""


def floor(parts: tuple[str, ...]) -> int:
    """Which floor a module's path or dotted name (profinfer, ...) is on; the ground is -1."""
    return WINGS.index(parts[1]) if len(parts) > 1 and parts[1] in WINGS else -1


def imports(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and name of every module of ours that is imported anywhere in a file, also within
    functions and where only types are checked."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            names = [f"{node.module}.{name}" for name in names]
        for name in names:
            if name.split(".")[0] == "profinfer":
                yield node.lineno, tuple(name.split("."))


def test_nothing_imports_upward() -> None:
    seen = set()
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(REPO).parts
        for line, name in imports(path):
            seen.add(name[1])
            place = f"{path.relative_to(REPO)}:{line}"
            assert str(path.relative_to(REPO)) == ROOF or floor(name) <= floor(parts), (
                f"{place} imports {'.'.join(name)}, which is above it"
            )
    assert seen >= set(WINGS) - {"commands"}


def test_few_modules_stand_on_the_ground() -> None:
    ground = [path.name for path in HOUSE.glob("*.py")]
    assert len(ground) <= 10, ground
    folders = {path.parent.name for path in HOUSE.glob("*/*.py")}
    assert folders == set(WINGS)


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_says_what_it_is_and_is_of_a_size(wing: str) -> None:
    modules = [path.stem for path in (HOUSE / wing).glob("*.py") if path.stem != "__init__"]
    assert 5 <= len(modules) <= (20 if wing == "commands" else 15), modules
    said = ast.get_docstring(ast.parse((HOUSE / wing / "__init__.py").read_text()))
    assert said, "no docstring"
    assert len(said) >= 100, said


def test_every_wing_is_installed() -> None:
    tools = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]
    assert set(tools["setuptools"]["packages"]) >= {f"profinfer.{wing}" for wing in WINGS}


def test_modules_of_sql_stand_in_folders() -> None:
    names = {tuple(name.split(".")) for name in sql_modules(SQL_DIR)}
    assert {name for name in names if len(name) != 3} == {("profinfer", "events")}


def test_tests_bear_the_same_nouns() -> None:
    domains = {path.name for path in (SQL_DIR / "profinfer").iterdir() if path.is_dir()}
    folders = {path.parent.name for path in (REPO / "tests").glob("*/test_*.py")}
    assert folders <= {*WINGS, *domains, *OTHER_TESTS}, folders - {*WINGS, *domains, *OTHER_TESTS}
