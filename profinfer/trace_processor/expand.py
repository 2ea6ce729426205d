"""Self-contained SQL: a ready query with the modules it includes, to paste where the package is
not registered, such as ui.perfetto.dev."""

from __future__ import annotations

import re
from pathlib import Path

from profinfer.errors import QueryError

_INCLUDE = re.compile(r"^INCLUDE PERFETTO MODULE (profinfer(?:\.\w+)+);[ \t]*\n", re.MULTILINE)
_CREATE = re.compile(r"^CREATE PERFETTO", re.MULTILINE)


def expand(sql: str, sql_dir: Path) -> str:
    """`sql` with our modules in place of their INCLUDEs, each once, before its first use."""
    seen: set[str] = set()

    def inline(text: str) -> str:
        parts = [module(name) for name in _INCLUDE.findall(text)]
        return "".join([*parts, _INCLUDE.sub("", text)])

    def module(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        path = sql_dir.joinpath(*name.split(".")).with_suffix(".sql")
        try:
            text = path.read_text()
        except OSError as error:
            raise QueryError(f"cannot read module {name}: {error}") from None
        # So that the whole can be run a second time.
        return _CREATE.sub("CREATE OR REPLACE PERFETTO", inline(text)) + "\n"

    return inline(sql)
