"""What an extension server of the Perfetto UI (v54 and later) serves: static JSON, no program.

    DIR/manifest                      who this is, and what there is
    DIR/modules/default/macros        the workspace, and a tab for each ready query
    DIR/modules/default/sql_modules   the PerfettoSQL package `profinfer`

Whoever adds the server to ui.perfetto.dev has them with every trace.
"""

from __future__ import annotations

import json
from pathlib import Path

from profinfer.errors import OutputError
from profinfer.output import Output, give_to_caller
from profinfer.trace_processor import SQL_DIR, query
from profinfer.trace_processor.session import PACKAGE, sql_modules
from profinfer.ui.start import Commands, any_workspace, command, first_table

_MODULE = "default"


def files() -> dict[str, object]:
    """Their content by path. All names begin with our namespace, as the UI demands."""
    macros = [_macro("Inference", "workspace Inference", any_workspace())]
    for file in query.ready_queries():
        tab = command("RunQueryAndShowTab", first_table(file.stem, inline=False))
        macros.append(_macro(f"query.{file.stem}", f"{file.stem}: {query.describe(file)}", [tab]))
    modules = [{"name": name, "sql": sql} for name, sql in sql_modules(SQL_DIR).items()]
    return {
        "manifest": {
            "name": "ProfInfer",
            "namespace": PACKAGE,
            "features": [{"name": "macros"}, {"name": "sql_modules"}],
            "modules": [{"id": _MODULE, "name": "Default"}],
        },
        f"modules/{_MODULE}/macros": {"macros": macros},
        f"modules/{_MODULE}/sql_modules": {"sql_modules": modules},
    }


def write(folder: Path, *, force: bool = False) -> list[Path]:
    """Writes them below a folder, which is made; the files."""
    written = []
    for name, content in files().items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make {path.parent}: {error.strerror}") from None
        for parent in path.parents[: len(Path(name).parts) - 1]:
            if parent.is_symlink():
                raise OutputError(f"{parent} is a symbolic link")
        output = Output(path, force=force)
        try:
            give_to_caller(output)
            output.append(json.dumps(content, indent=1).encode())
        finally:
            output.close()
        written.append(path)
    return written


def _macro(name: str, title: str, run: Commands) -> dict[str, object]:
    return {"id": f"{PACKAGE}.{name}", "name": f"ProfInfer {title}", "run": run}
