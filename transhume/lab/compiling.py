"""The lab's C programs, compiled where they are used: static, for guests and namespaces without libraries.

Owns one call of the compiler and its excuse. The sources lie beside this file.
"""

import subprocess
from pathlib import Path

from transhume.errors import LabError


def compile_program(source: str, target: Path) -> None:
    """Compile one of the lab's sources.

    Raises:
        LabError: the compiler failed.
    """
    path = Path(__file__).with_name(source)
    done = subprocess.run(
        ["gcc", "-O2", "-static", "-Wall", "-o", str(target), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"{source} doesn't compile:\n{done.stderr}")
