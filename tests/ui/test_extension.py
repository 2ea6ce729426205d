"""What `ui-extension` writes is what Perfetto's UI asks an extension server for.

The format: docs/visualization/extension-server-protocol.md of Perfetto v58, and its
ui/src/core_plugins/dev.perfetto.ExtensionServers/types.ts.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from profinfer.__main__ import main
from profinfer.errors import OutputError
from profinfer.trace_processor import SQL_DIR, open_trace, query
from profinfer.ui import extension
from tests.captures import convert
from tests.sql.test_scheduling import schedule


@pytest.fixture(scope="module", name="folder")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extension") / "a" / "b"
    assert main(["ui-extension", str(folder)]) == 0
    return folder


def read(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_bytes())
    return content


def test_manifest(folder: Path) -> None:
    manifest = read(folder, "manifest")
    assert set(manifest) == {"name", "namespace", "features", "modules"}
    assert manifest["namespace"] == "profinfer"
    assert manifest["features"] == [{"name": "macros"}, {"name": "sql_modules"}]
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    features = {feature["name"] for feature in manifest["features"]}
    wanted = {f"modules/{m['id']}/{name}" for m in manifest["modules"] for name in features}
    assert written == {"manifest"} | wanted


def test_every_name_begins_with_the_namespace(folder: Path) -> None:
    macros = read(folder, "modules/default/macros")["macros"]
    modules = read(folder, "modules/default/sql_modules")["sql_modules"]
    names = [*(macro["id"] for macro in macros), *(module["name"] for module in modules)]
    assert all(name.startswith("profinfer.") for name in names)
    assert len(set(names)) == len(names)
    ready = {f"profinfer.query.{file.stem}" for file in query.ready_queries(SQL_DIR)}
    assert {macro["id"] for macro in macros} == ready | {"profinfer.Inference"}
    for macro in macros:
        assert set(macro) == {"id", "name", "run"}
        assert all(set(run) == {"id", "args"} for run in macro["run"])
        assert all(isinstance(arg, str) for run in macro["run"] for arg in run["args"])


def test_macros_run_with_the_modules(folder: Path, tmp_path: Path) -> None:
    """Each tab's SQL answers in a Trace Processor that has been told these modules only."""
    macros = read(folder, "modules/default/macros")["macros"]
    modules = read(folder, "modules/default/sql_modules")["sql_modules"]
    trace = convert(schedule().frames(), tmp_path / "t.pftrace")
    with open_trace(trace, sql_dir=None) as session:
        package = {module["name"]: module["sql"] for module in modules}
        session.tp.rpc.register_sql_package("profinfer", package)
        tabs = [run for macro in macros for run in macro["run"] if "RunQuery" in run["id"]]
        assert tabs
        for tab in tabs:
            assert session.query(tab["args"][0]).columns


def test_regular_expressions_of_the_workspace(folder: Path) -> None:
    [macro] = [
        macro for macro in read(folder, "modules/default/macros")["macros"]
        if macro["id"] == "profinfer.Inference"
    ]  # fmt: skip
    paths = [run["args"][0] for run in macro["run"] if "Copy" in run["id"]]
    shown = [
        "engine 7 > Inference > Requests", "engine 7 > Inference > Tokens per second",
        "engine 7 > compute 0 7", "engine 7 > compute 12 345",
        "engine 7 > Inference > ProfInfer recorder",
    ]  # fmt: skip
    left = [
        "engine 7",
        "engine 7 > Inference",
        "engine 7 > Inference > Requests > x",
        "compute 1 2",
    ]
    for path in shown:
        assert sum(bool(re.search(pattern, path)) for pattern in paths) == 1
    for path in left:
        assert not any(re.search(pattern, path) for pattern in paths)


def test_refuses_what_is_there_and_links(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists"):
        extension.write(folder)
    assert len(extension.write(folder, force=True)) == 3
    (tmp_path / "away").mkdir()
    (tmp_path / "modules").symlink_to("away")
    with pytest.raises(OutputError, match="symbolic link"):
        extension.write(tmp_path)
    assert not list((tmp_path / "away").rglob("macros"))
