"""C programs, compiled where they are used: static, for guests and namespaces without libraries.

Owns one call of the compiler and its excuse.
"""

import subprocess
from pathlib import Path

from transhume.errors import LabError

SOURCES = Path(__file__).parent
"""Where the lab's own lie."""


def compile_program(source: Path, target: Path) -> None:
    """Compile a source.

    Raises:
        LabError: the compiler failed.
    """
    done = subprocess.run(
        ["gcc", "-O2", "-static", "-Wall", "-o", str(target), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"{source.name} doesn't compile:\n{done.stderr}")
