"""Packages of other Debian suites: what cannot be had is named."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from debian import MIRROR, DebianError, PrivateApt, field, read_files

from tests.conftest import Require


def test_an_unreachable_suite_is_named(
    require: Require, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("apt", shutil.which("apt-get"))
    monkeypatch.setenv(MIRROR, f"file:{tmp_path}")
    before = set(Path(tempfile.gettempdir()).glob("profinfer-apt-*"))
    with (
        pytest.raises(DebianError, match=r"arm64 packages of Debian's suite 'nowhere'(?s:.*)hint:"),
        PrivateApt("arm64", ("nowhere",)),
    ):
        pass
    assert set(Path(tempfile.gettempdir()).glob("profinfer-apt-*")) == before


def test_a_package_is_read(require: Require, tmp_path: Path) -> None:
    require("dpkg-deb", shutil.which("dpkg-deb"))
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: m\nDepends: a-1, b (= 2)\n"
        "Description: d\n"
    )
    (package / "lib").mkdir()
    (package / "lib/x.ko").write_bytes(b"module")
    (package / "lib/y.txt").write_bytes(b"text")
    (package / "lib/z.ko").symlink_to("x.ko")
    deb = tmp_path / "p.deb"
    subprocess.run(["dpkg-deb", "--build", package, deb], check=True, capture_output=True)
    assert field(deb, "Depends") == "a-1, b (= 2)"
    assert list(read_files(deb, ("lib/*.ko",))) == [("lib/x.ko", b"module")]
    deb.write_bytes(b"no package")
    with pytest.raises(DebianError, match=r"p\.deb"):
        list(read_files(deb, ("*",)))
