"""Fetches Perfetto's own recorder (traced, traced_probes, perfetto) from Debian into a folder.

    python tools/fetch_perfetto.py build/perfetto

    DIR/bin/           starts the programs with the libraries that came with them
    DIR/manifest.json  every package and its version

Debian's releases do not have these packages, and unstable's want unstable's libc: everything lies
in the folder, nothing is installed. Packages come from the Debian mirror of this system's apt
sources, and are checked by its Debian keyring. The mirror has one version of each, the newest;
where that is not the one that the tests were last tried with, it says so. A folder that exists
is left as it is: remove it to get newer versions.
`PROFINFER_PERFETTO=DIR/bin profinfer record --system ...` uses them.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from pathlib import Path

from debian import DebianError, PrivateApt, field, unpack

ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
UNSTABLE = "sid"
# With what they are linked with: its other dependencies are for services of a whole system.
PACKAGES = ("perfetto", "libc6", "libstdc++6", "libgcc-s1", "zlib1g")
TRIED = "56.0-1"
"""The version of the package perfetto that the tests were last tried with."""

PROGRAMS = ("usr/sbin/traced", "usr/sbin/traced_probes", "usr/bin/perfetto")
NOT_NEEDED = ("usr/share", "var", "etc")

# The folder may be moved: everything is found from where the script is.
STARTER = """\
#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")/root
exec "$root/{loader}" --library-path "$root/{libraries}:$root/usr/lib/perfetto" \
    "$root/{program}" "$@"
"""


def fetch(machine: str, folder: Path) -> None:
    """Unpacks the programs and their libraries into the new `folder`."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    root = part / "root"
    try:
        packages = []
        with PrivateApt(ARCHITECTURES[machine], (UNSTABLE,)) as apt:
            for deb in apt.download(*PACKAGES):
                unpack(deb, root)
                packages.append({key: field(deb, key) for key in ("Package", "Version")})
        [version] = [each["Version"] for each in packages if each["Package"] == "perfetto"]
        if version != TRIED:
            print(f"fetch_perfetto: got {version}; the tests were tried with {TRIED}")
        for name in NOT_NEEDED:
            shutil.rmtree(root / name, ignore_errors=True)
        (part / "bin").mkdir()
        for program in PROGRAMS:
            write_starter(root, part / "bin", program)
        (part / "manifest.json").write_text(json.dumps(packages, indent=1) + "\n")
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_starter(root: Path, folder: Path, program: str) -> None:
    """Writes the script that runs one program by the dynamic loader of its own libc."""
    if not (root / program).is_file():
        raise DebianError(f"the perfetto package of '{UNSTABLE}' has no {program}")
    loaders = sorted(root.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*"))
    if len(loaders) != 1:
        raise DebianError(f"the libc of '{UNSTABLE}' has {len(loaders)} dynamic loaders")
    loader = loaders[0].relative_to(root)
    starter = folder / Path(program).name
    starter.write_text(STARTER.format(loader=loader, libraries=loader.parent, program=program))
    starter.chmod(0o755)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder: Path = parser.parse_args().folder
    if folder.exists():
        return 0
    machine = platform.machine()
    try:
        if machine not in ARCHITECTURES:
            raise DebianError(f"Debian has no perfetto for {machine}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        fetch(machine, folder)
    except (DebianError, OSError) as error:
        print(f"fetch_perfetto: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
