"""The few Debian packages that the lab needs on this machine itself, installed when they are missing.

Owns one apt-get call and its excuse; what runs in the clouds is in the cached root (`root`), not here.
"""

import os
import shutil
import subprocess

from transhume.errors import LabError
from transhume.lab.narration import Narrator

PROVIDED_BY = {
    "debootstrap": "debootstrap",
    "gcc": "gcc libc6-dev",
    "mkfs.ext4": "e2fsprogs",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}


def need_root() -> None:
    """Refuse to go on without root.

    Raises:
        LabError: this process isn't root's.
    """
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces and starts libvirtd: run it as root")


def install_missing(tell: Narrator) -> None:
    """Install what the lab needs of this machine, if something is missing.

    Raises:
        LabError: apt-get isn't there, or failed.
    """
    missing = sorted({p for c, p in PROVIDED_BY.items() if shutil.which(c, path=_PATH) is None})
    if not missing:
        return
    packages = " ".join(missing).split()
    if shutil.which("apt-get") is None:
        raise LabError(f"the lab needs {', '.join(packages)}, and this machine has no apt-get")
    tell("packages of this machine", f"apt-get install {' '.join(packages)}")
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-q", *command],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(
                f"apt-get {' '.join(command)} failed: {done.stderr.strip()[-500:]}; install "
                f"{', '.join(packages)} by hand and try again"
            )


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
