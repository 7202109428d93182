"""The guests' initramfs, read back by the tool that it is made for."""

import lzma
import shutil
import stat
import subprocess

import pytest

from transhume.lab.initramfs import load_order, pack
from transhume.lab.root import Root


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio isn't installed")
def test_cpio_unpacks_what_we_pack(tmp_path):
    archive = pack({"init": b"#!/bin/sh\n", "bin/busybox": b"123", "modules/a.ko": b""})

    subprocess.run(["cpio", "-id", "--quiet"], input=archive, cwd=tmp_path, check=True)

    assert (tmp_path / "init").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "bin/busybox").read_bytes() == b"123"
    assert (tmp_path / "modules/a.ko").read_bytes() == b""
    assert (tmp_path / "proc").is_dir()
    assert (tmp_path / "init").stat().st_mode & stat.S_IXUSR


def test_a_module_comes_after_those_that_it_depends_on(tmp_path):
    for name, needs in {"net": "failover,ring", "failover": "core", "ring": "", "core": ""}.items():
        add_module(tmp_path, name, needs)

    order = list(load_order(Root(path=tmp_path), ["net"]))

    assert order == ["core", "failover", "ring", "net"]


def test_a_module_that_is_built_in_is_passed_over(tmp_path):
    add_module(tmp_path, "net", "builtin")

    assert list(load_order(Root(path=tmp_path), ["pci", "net"])) == ["net"]


def test_a_module_that_two_need_is_loaded_once(tmp_path):
    for name, needs in {"a": "core", "b": "core", "core": ""}.items():
        add_module(tmp_path, name, needs)

    assert list(load_order(Root(path=tmp_path), ["a", "b", "core"])) == ["core", "a", "b"]


def add_module(root, name, needs):
    folder = root / "usr/lib/modules/6.12/kernel/drivers"
    folder.mkdir(parents=True, exist_ok=True)
    code = b"\x7fELF\0name=x\0depends=" + needs.encode() + b"\0more"
    (folder / f"{name}.ko.xz").write_bytes(lzma.compress(code))
