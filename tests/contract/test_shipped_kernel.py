"""The machine code that comes with the package is what its sources give."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from transhume.monitor.capture.scan.compiled import kept

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="code comes for x86-64 only")
def test_made_anew_it_is_the_same(tmp_path: Path) -> None:
    """By the compiler that constraints.txt names: nobody has to trust what can't be read."""
    shutil.copytree(
        ROOT / "transhume",
        tmp_path / "transhume",
        ignore=shutil.ignore_patterns("*.o", "__pycache__"),
    )
    subprocess.run(
        [ROOT / "tools" / "build-kernel", sys.executable],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=True,
    )

    (made,) = tmp_path.rglob("kernel-*.o")

    assert made.read_bytes() == kept._SHIPPED.read_bytes()
