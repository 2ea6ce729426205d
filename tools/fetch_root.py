"""Makes the root of a Debian system that holds what engines are linked with, and nothing else.

    python tools/fetch_root.py aarch64 bookworm DIR [PACKAGE...]

That is libc, libstdc++, libgcc and libgomp: what `profinfer plan --sysroot DIR` takes to look into
an engine of another machine, or one that needs another libc than this system's. PACKAGEs are
unpacked beside them, with all they depend on. Packages come from the Debian mirror of this
system's apt sources, and are checked by its Debian keyring; nothing is installed. DIR must not
exist yet.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from debian import DebianError, PrivateApt, unpack

ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
PACKAGES = ("libc6", "libstdc++6", "libgcc-s1", "libgomp1")
NOT_NEEDED = (
    "usr/share",
    "usr/lib/*/gconv",
    "usr/lib/*/audit",
    "lib/*/audit",
    "usr/lib/python3/dist-packages",
    "var",
)
# Another package than libc6 brings these links in releases whose /usr holds everything.
MERGED = ("bin", "lib", "lib64", "sbin")


def fetch(machine: str, release: str, root: Path, packages: Sequence[str]) -> None:
    """Unpacks the packages, and what they depend on, into the new folder `root`."""
    part = root.with_name(root.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with PrivateApt(ARCHITECTURES[machine], (release,)) as apt:
            for deb in apt.download_with_dependencies(*PACKAGES, *packages):
                unpack(deb, part)
        for pattern in NOT_NEEDED:
            for folder in part.glob(pattern):
                shutil.rmtree(folder)
        for name in MERGED:
            if (part / "usr" / name).exists() and not (part / name).exists():
                (part / name).symlink_to(f"usr/{name}")
        # Others than we run what is in it.
        part.chmod(0o755)
        part.rename(root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("machine", choices=ARCHITECTURES)
    parser.add_argument("release", help="Debian's name for it")
    parser.add_argument("root", type=Path, metavar="DIR")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    args = parser.parse_args()
    try:
        if args.root.exists():
            raise DebianError(f"{args.root} exists\nhint: remove it to make it anew")
        args.root.parent.mkdir(parents=True, exist_ok=True)
        fetch(args.machine, args.release, args.root, args.packages)
    except (DebianError, OSError) as error:
        print(f"fetch_root: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
