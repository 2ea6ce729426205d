"""Fetches what emulated machines boot and what is compiled for them, from Debian, into build/.

    python tools/fetch_emulated.py

    build/emulated/kernels/NAME/    vmlinuz, and in modules/ what leads to a disk, in load order
    build/emulated/busybox/MACHINE  statically linked
    build/sysroot/MACHINE/          headers and static libraries: libbpf, what it needs, json-c
    build/emulated/manifest.json    every package and its version

Packages come from the Debian mirror of this system's apt sources, and are checked by its Debian
keyring; nothing is installed. A second run finds the manifest and does nothing: to get newer
versions, remove build/emulated.
"""

from __future__ import annotations

import json
import lzma
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from debian import DebianError, PrivateApt, field, read_files, unpack

BUILD = Path(__file__).resolve().parents[1] / "build"
MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}

OLD = "bullseye"
RELEASE = "bookworm"
BACKPORTS = "bookworm-backports"
UNSTABLE = "sid"

# The kernels for clouds are small and bring their own BTF.
KERNELS = {
    "arm64-5.10": ("arm64", OLD),
    "arm64-6.1": ("arm64", RELEASE),
    "arm64-6.12": ("arm64", BACKPORTS),
    "x86-5.10": ("amd64", OLD),
    "x86-6.1": ("amd64", RELEASE),
    "x86-6.12": ("amd64", BACKPORTS),
    "x86-current": ("amd64", UNSTABLE),
}
# Whatever of these is no module is built into the kernel.
MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
)
# Backports have a libbpf that knows uprobe_multi, and the release's libc is old enough for boards.
SYSROOT = (
    f"libbpf-dev/{BACKPORTS}",
    f"libelf-dev/{RELEASE}",  # the static library in backports lacks functions
    f"zlib1g-dev/{RELEASE}",
    f"libjson-c-dev/{RELEASE}",  # the recorder's own
)


@dataclass(frozen=True)
class Package:
    """What the manifest says of one package."""

    name: str
    architecture: str
    version: str
    used_for: str


def describe(deb: Path, used_for: str) -> Package:
    """A downloaded package's line in the manifest."""
    name, architecture, version = (
        field(deb, each) for each in ("Package", "Architecture", "Version")
    )
    return Package(name, architecture, version, used_for)


def fetch_kernel(apt: PrivateApt, name: str, suite: str, folder: Path) -> list[Package]:
    """Unpacks a kernel's image and modules into `folder`."""
    (folder / "modules").mkdir(parents=True)
    wanted = [f"linux-image-cloud-{apt.architecture}/{suite}"]
    packages = []
    while wanted:
        (deb,) = apt.download(wanted.pop())
        packages.append(describe(deb, f"kernel {name}"))
        # The package without a version depends on the image; a newer image is split in three.
        depends = re.findall(r"\blinux-(?:image|binary|modules)-\d[^\s,|]*", field(deb, "Depends"))
        wanted += [f"{each}/{suite}" for each in depends]
        for path, content in read_files(deb, ("*/vmlinuz", "*/vmlinuz-*", "*.ko", "*.ko.xz")):
            unpack_kernel_file(PurePosixPath(path).name, content, folder)
    if not (folder / "vmlinuz").exists():
        names = ", ".join(f"{each.name} {each.version}" for each in packages)
        raise DebianError(f"kernel {name}: no vmlinuz in {names}")
    return packages


def unpack_kernel_file(name: str, content: bytes, folder: Path) -> None:
    """Writes an image, or a module that is needed, where machines look for it."""
    if name.startswith("vmlinuz"):
        (folder / "vmlinuz").write_bytes(content)
        return
    module = name.partition(".")[0].replace("-", "_")
    if module in MODULES:
        order = MODULES.index(module)
        plain = lzma.decompress(content) if name.endswith(".xz") else content
        (folder / "modules" / f"{order}-{module}.ko").write_bytes(plain)


def fetch_busybox(apt: PrivateApt, output: Path) -> Package:
    """Unpacks a static busybox as the file `output`."""
    (deb,) = apt.download(f"busybox-static/{RELEASE}")
    ((_, content),) = read_files(deb, ("bin/busybox", "usr/bin/busybox"))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    output.chmod(0o755)
    return describe(deb, "busybox")


def fetch_sysroot(apt: PrivateApt, folder: Path) -> list[Package]:
    """Unpacks the libraries that recorders are linked with."""
    packages = []
    for name in SYSROOT:
        (deb,) = apt.download(name)
        unpack(deb, folder)
        packages.append(describe(deb, "sysroot"))
    shutil.rmtree(folder / "usr/share")
    return packages


def fetch(architecture: str, emulated: Path, sysroot: Path) -> list[Package]:
    """Fetches everything for one architecture into the two folders."""
    machine = MACHINES[architecture]
    kernels = {name: suite for name, (of, suite) in KERNELS.items() if of == architecture}
    suites = dict.fromkeys((RELEASE, BACKPORTS, *kernels.values()))
    print(f"== fetching for {machine}: {', '.join(kernels)}", flush=True)
    with PrivateApt(architecture, tuple(suites)) as apt:
        packages = [fetch_busybox(apt, emulated / "busybox" / machine)]
        packages += fetch_sysroot(apt, sysroot / machine)
        for name, suite in kernels.items():
            packages += fetch_kernel(apt, name, suite, emulated / "kernels" / name)
    return packages


def main() -> int:
    manifest = BUILD / "emulated/manifest.json"
    wanted = {"kernels": KERNELS, "modules": MODULES, "sysroot": SYSROOT}
    wanted = json.loads(json.dumps(wanted))
    if manifest.exists() and json.loads(manifest.read_text())["wanted"] == wanted:
        return 0
    emulated, sysroot = BUILD / "emulated.part", BUILD / "sysroot.part"
    for folder in (emulated, sysroot):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        # Most of the time passes in unpacking: a core for each.
        with ThreadPoolExecutor() as pool:
            fetched = pool.map(lambda each: fetch(each, emulated, sysroot), MACHINES)
            packages = [package for packages in fetched for package in packages]
    except DebianError as error:
        print(f"fetch_emulated: {error}", file=sys.stderr)
        return 1
    (emulated / "manifest.json").write_text(
        json.dumps({"wanted": wanted, "packages": [asdict(each) for each in packages]}, indent=1)
        + "\n"
    )
    # The folder with the manifest last: it says that all is there.
    for part in (sysroot, emulated):
        final = part.with_suffix("")
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
    return 0


if __name__ == "__main__":
    sys.exit(main())
