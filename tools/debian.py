"""Packages of any Debian suite and architecture, without this system's apt or dpkg knowing.

A `PrivateApt` has lists, caches and an (empty) package database of its own in a temporary folder.
It reads the host's proxies and the like, takes the mirror from the host's own sources, and trusts
the host's Debian keyring and nothing else.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "DEBIAN_MIRROR"

CONFIGURATION = """
#clear APT::Update;
#clear DPkg;
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
APT::Architecture "{architecture}";
#clear APT::Architectures;
APT::Architectures "{architecture}";
APT::Default-Release "{release}";
APT::Install-Recommends "0";
Acquire::Languages "none";
Acquire::Retries "5";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "0";
"""


class DebianError(Exception):
    """What could not be had from where, and what to do next."""


def mirror() -> str:
    """The Debian mirror that this system's own sources name (or $DEBIAN_MIRROR)."""
    if MIRROR in os.environ:
        return os.environ[MIRROR]
    # Security updates have a mirror of their own, without any other suite.
    done = _run(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"
    )
    for line in done.splitlines():
        uri, _, label = line.partition(" ")
        if label == "Debian":
            return uri.rstrip("/")
    raise DebianError(
        "this system's apt sources (after `apt-get update`) name no Debian mirror\n"
        f"hint: {MIRROR}=URL names one"
    )


class PrivateApt:
    """Reads the lists of `suites` for one Debian architecture; the first suite is preferred.

    A context manager: all it has downloaded is gone at its end. Raises DebianError.
    """

    def __init__(self, architecture: str, suites: Sequence[str]) -> None:
        self.architecture = architecture
        self.suites = tuple(suites)

    def __enter__(self) -> PrivateApt:
        if not KEYRING.exists():
            raise DebianError(f"no {KEYRING}\nhint: install debian-archive-keyring")
        source = mirror()
        self._root = Path(tempfile.mkdtemp(prefix="profinfer-apt-"))
        try:
            self._prepare()
            for suite in self.suites:
                self._update(source, suite)
        except BaseException:
            shutil.rmtree(self._root, ignore_errors=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._root, ignore_errors=True)

    def download(self, *packages: str) -> list[Path]:
        """The packages themselves (`name` or `name/suite`), as .deb files."""
        before = set(self._debs("download"))
        self._apt("download", *packages, cwd=self._root / "download")
        return sorted(set(self._debs("download")) - before)

    def download_with_dependencies(self, *packages: str) -> list[Path]:
        """The packages and all they depend on, as on a system that has nothing yet."""
        before = set(self._debs("cache/archives"))
        self._apt("install", "--yes", "--download-only", *packages)
        return sorted(set(self._debs("cache/archives")) - before)

    def _prepare(self) -> None:
        # apt drops its privileges to download: the folder is open to that user.
        self._root.chmod(0o755)
        for folder in ("state/lists/partial", "cache/archives/partial", "download"):
            (self._root / folder).mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(self._root / "download", "_apt")
        (self._root / "status").touch()
        (self._root / "apt.conf").write_text(
            CONFIGURATION.format(
                root=self._root, architecture=self.architecture, release=self.suites[0]
            )
        )

    def _debs(self, folder: str) -> Iterator[Path]:
        return (self._root / folder).glob("*.deb")

    def _update(self, source: str, suite: str) -> None:
        """Adds a suite, so that an error names the one that cannot be read."""
        with (self._root / "sources.list").open("a") as sources:
            sources.write(f"deb [signed-by={KEYRING}] {source} {suite} main\n")
        try:
            # Only the lists of this suite are new: the others are asked for and not modified.
            self._apt("update", "-o", "APT::Update::Error-Mode=any")
        except DebianError as error:
            raise DebianError(
                f"cannot read the {self.architecture} packages of Debian's suite '{suite}' "
                f"from the mirror of this system's apt sources\n{error}\n"
                f"hint: {MIRROR}=URL names another mirror"
            ) from error

    def _apt(self, *arguments: str, cwd: Path | None = None) -> str:
        return _run("apt-get", "-qq", "-c", str(self._root / "apt.conf"), *arguments, cwd=cwd)


def field(deb: Path, name: str) -> str:
    """A field of a package's control file; empty if it has none."""
    return _run("dpkg-deb", "--field", str(deb), name).strip()


def unpack(deb: Path, folder: Path) -> None:
    """Unpacks a whole package."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("dpkg-deb", "--extract", str(deb), str(folder))


def read_files(deb: Path, patterns: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Path (without `./`) and content of a package's regular files that match a pattern."""
    with tempfile.TemporaryFile() as plain:
        done = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], stdout=plain, check=False)
        if done.returncode:
            raise DebianError(f"dpkg-deb cannot read {deb.name}: exit status {done.returncode}")
        plain.seek(0)
        with tarfile.open(fileobj=plain, mode="r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if any(fnmatch.fnmatch(name, each) for each in patterns):
                    content = archive.extractfile(member) if member.isfile() else None
                    if content is not None:
                        yield name, content.read()


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
    )
    if done.returncode:
        raise DebianError(f"{command[0]} {command[-1]}: {done.stderr.strip()}")
    return done.stdout
