"""Makes the root of a Debian system for another machine with little more than Python in it.

    python tools/fetch_python.py aarch64 DIR

`profinfer plan --sysroot DIR` runs that Python under qemu-user to learn the struct layouts of the
machine's libraries. Packages come from the Debian mirror of this system's apt sources, and are
checked by its Debian keyring; nothing is installed. DIR must not exist yet (75 MB).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from debian import DebianError, PrivateApt, unpack

ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
RELEASE = "bookworm"
# Beside Python what engines are linked with.
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1")
NOT_NEEDED = ("usr/share", "usr/lib/python3/dist-packages", "var")


def fetch(machine: str, root: Path) -> None:
    """Unpacks the packages, and what they depend on, into the new folder `root`."""
    part = root.with_name(root.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with PrivateApt(ARCHITECTURES[machine], (RELEASE,)) as apt:
            for deb in apt.download_with_dependencies(*PACKAGES):
                unpack(deb, part)
        for name in NOT_NEEDED:
            shutil.rmtree(part / name, ignore_errors=True)
        # Others than we run what is in it.
        part.chmod(0o755)
        part.rename(root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("machine", choices=ARCHITECTURES)
    parser.add_argument("root", type=Path, metavar="DIR")
    args = parser.parse_args()
    try:
        if args.root.exists():
            raise DebianError(f"{args.root} exists\nhint: remove it to make it anew")
        args.root.parent.mkdir(parents=True, exist_ok=True)
        fetch(args.machine, args.root)
    except (DebianError, OSError) as error:
        print(f"fetch_python: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
