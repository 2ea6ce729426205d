"""Graphs by Graphviz: text in its language, and its `dot` as a process of its own.

Untrusted text only ever stands in quoted labels, never in those that look like HTML. What `dot`
calls escapes and entities is taken apart in them; of tooltips it does not do so alike everywhere,
so these are put into the picture afterwards.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Mapping

from profinfer.errors import KernelError
from profinfer.trace_processor.query import escape

_SECONDS = 60.0
_LONGEST = 200
"""Characters of a line."""
_IDS = re.compile(r' id="[^"]*"')
_COMMENTS = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_TITLES = re.compile(r"<title>([^<]*)</title>\n?")


def clean(text: str, longest: int = _LONGEST) -> str:
    """One line of text that prints, cut to a length."""
    line = escape(text[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"


def quoted(*lines: str) -> str:
    """A label that shows these lines as they are: no escape, no entity."""
    shown = (
        clean(line).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
        for line in lines
    )
    return '"' + "\\n".join(shown) + '"'


def svg(dot: str, tips: Mapping[str, str], *, seconds: float = _SECONDS) -> str:
    """The graph as one <svg> element that may stand in a page beside others. `tips`: what is told
    of a node, by its name, to who points at it."""
    text = _run(dot, seconds).decode("utf-8", "replace")
    # Quotes and angle brackets in text are entities, so these are Graphviz's own.
    text = _COMMENTS.sub("", _IDS.sub("", text[text.index("<svg") :]))
    text = _TITLES.sub(
        lambda title: f"<title>{html.escape(tip)}</title>\n" if (tip := tips.get(title[1])) else "",
        text,
    )
    return text.replace("<svg ", '<svg class="dag" role="img" ', 1)


def _run(dot: str, seconds: float) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise KernelError(
            "Graphviz, which draws graphs, is not installed",
            "apt-get install graphviz; --dot writes what it would be given",
        )
    try:
        done = subprocess.run(
            [program, "-Tsvg"], input=dot.encode(), capture_output=True, timeout=seconds,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise KernelError(
            f"Graphviz has not drawn this graph within {seconds:g} s",
            "--dot writes what it was given",
        ) from None
    except OSError as error:
        raise KernelError(f"cannot run {program}: {error.strerror}") from None
    if done.returncode or b"<svg" not in done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise KernelError(f"Graphviz has failed: {clean(said)}")
    return done.stdout
