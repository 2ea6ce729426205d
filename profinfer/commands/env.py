"""`profinfer env`: what to start an engine with so that its probes are nearly free."""

from __future__ import annotations

import argparse
import os

from profinfer.engine.stubs import with_audit

_EXAMPLES = """\
examples:
  env $(profinfer env) llama-server -m m.gguf       attach with record --pid at any later time
  profinfer env --unit                              the same as a drop-in for a systemd unit
  profinfer env >> /etc/default/my-engine           or for its EnvironmentFile

The engine is neither changed nor recompiled: the dynamic loader asks the library where to bind
three functions of ggml, and it answers with stubs that hold a NOP for a probe to sit on. Untraced,
they cost a few cycles per call. Processes that load no ggml are left alone.
"""


class EnvCommand:
    """Prints the environment variable that loads the audit library."""

    name = "env"
    help = "what to set for an engine so that it can be recorded later at the lowest price"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """One flag."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = _EXAMPLES
        parser.add_argument("--unit", action="store_true", help="print a drop-in for systemd")

    def run(self, args: argparse.Namespace) -> int:
        """0 when the library is there."""
        line = "LD_AUDIT=" + with_audit(os.environ.get("LD_AUDIT", ""))
        print(f"[Service]\nEnvironment={line}" if args.unit else line)
        return 0
