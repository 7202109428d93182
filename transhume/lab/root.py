"""The clouds' Debian 13 root: bootstrapped once from this machine's own mirror, then cached.

Why not this machine's QEMU: before 9.0, QEMU under emulation loses dirty pages, and a live migration that takes
longer than a blink destroys the guest. The root is built beside its place and renamed when complete, so that an
interrupted build is never taken for a root; the build runs in namespaces of its own and dies with us.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transhume.errors import LabError
from transhume.lab.narration import Narrator

CACHE = Path("/var/cache/transhume")
SUITE = "trixie"
PACKAGES = (
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-driver-storage",
    "libvirt-clients",
    "qemu-system-x86",
    "qemu-utils",
    "iproute2",
    "busybox-static",
)
OLDEST_QEMU = (9, 0)

# The kernel's package is unpacked, not installed: its scripts would build an initramfs that nobody boots.
_BUILD = f"""
set -e
debootstrap --variant=minbase {SUITE} "$ROOT" "$MIRROR"
printf '#!/bin/sh\\nexit 101\\n' >"$ROOT/usr/sbin/policy-rc.d"
chmod 755 "$ROOT/usr/sbin/policy-rc.d"
mountpoint -q "$ROOT/proc" || mount -t proc proc "$ROOT/proc"
export DEBIAN_FRONTEND=noninteractive DPKG_FORCE=unsafe-io
chroot "$ROOT" apt-get -q update
chroot "$ROOT" apt-get -q install -y --no-install-recommends {" ".join(PACKAGES)}
kernel=$(chroot "$ROOT" apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p' | head -n 1)
chroot "$ROOT" sh -c "cd /tmp && apt-get -q -o APT::Sandbox::User=root download $kernel"
dpkg-deb -x "$ROOT"/tmp/"$kernel"_*.deb "$ROOT"
rm -rf "$ROOT"/tmp/* "$ROOT"/var/lib/apt/lists/* "$ROOT"/usr/share/doc "$ROOT"/usr/share/locale
chroot "$ROOT" apt-get -q clean
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A complete root on disk."""

    path: Path

    @property
    def kernel(self) -> Path:
        """The guests' kernel."""
        return next(self.path.glob("boot/vmlinuz-*"))

    def module(self, name: str) -> Path | None:
        """Return a module of the guests' kernel; None where it is built in."""
        found = self.path.glob(f"usr/lib/modules/*/kernel/**/{name}.ko*")
        return next(found, None)

    @property
    def busybox(self) -> Path:
        """A static busybox for the guests."""
        return self.path / "usr/bin/busybox"


def cached_root(tell: Narrator, *, cache: Path = CACHE, mirror: str | None = None) -> Root:
    """Return the cached root; build it where there is none.

    Raises:
        LabError: it can't be built here, or its QEMU is too old.
    """
    if platform.machine() != "x86_64":
        raise LabError(f"the lab's guests are amd64; this machine is {platform.machine()}")
    recipe = hashlib.sha256(_BUILD.encode()).hexdigest()[:8]
    place = cache / f"{SUITE}-{recipe}"
    with alone_in(cache):
        if not place.is_dir():
            _build(place, mirror or configured_mirror(), tell)
    refuse_old_qemu(_qemu_version(place))
    return Root(path=place)


def configured_mirror() -> str:
    """Return the Debian mirror that this machine's apt uses.

    Raises:
        LabError: apt knows none.
    """
    found = debian_mirror(_apt_targets())
    if found is None:
        # Freshly installed machines have no package lists, and apt tells of no target without them.
        subprocess.run(["apt-get", "-q", "update"], capture_output=True, check=False)
        found = debian_mirror(_apt_targets())
    if found is None:
        raise LabError(
            "apt has no Debian mirror configured (`apt-get indextargets`); name one with --mirror"
        )
    return found


def _apt_targets() -> str:
    return subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def debian_mirror(targets: str) -> str | None:
    """Pick Debian's own archive from lines of `label|URI`: by its label, or else by its name."""
    known = [line.partition("|") for line in targets.splitlines()]
    labelled = [uri for label, _, uri in known if label == "Debian"]
    named = [uri for _, _, uri in known if re.search(r"/debian/?$", uri)]
    return next((uri.rstrip("/") for uri in labelled + named), None)


def refuse_old_qemu(version: tuple[int, ...]) -> None:
    """Let no QEMU pass that would destroy guests.

    Raises:
        LabError: it is older than 9.0.
    """
    if version < OLDEST_QEMU:
        raise LabError(
            f"QEMU {'.'.join(map(str, version))} loses dirty pages when it emulates (fixed in 9.0): a live "
            f"migration would destroy the guest; use a root with a newer one"
        )


def _qemu_version(root: Path) -> tuple[int, ...]:
    done = subprocess.run(
        ["chroot", str(root), "qemu-system-x86_64", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", done.stdout)
    if found is None:
        raise LabError(f"{root} has no working QEMU ({done.stderr.strip()}); remove it, try again")
    return tuple(map(int, found.groups()))


@contextmanager
def alone_in(cache: Path) -> Iterator[None]:
    """Wait until nobody else makes anything for a cache; nobody else does until the block ends."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(place: Path, mirror: str, tell: Narrator) -> None:
    stage = f"Debian root for the clouds, once ({mirror})"
    tell(stage)
    unfinished = place.with_name(f".{place.name}.unfinished")
    _remove(unfinished)
    last: list[str] = []
    with subprocess.Popen(
        # Dies with us, and takes every process and mount of the build along.
        [
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", _BUILD),
        ],
        env={
            **os.environ,
            "ROOT": str(unfinished),
            "MIRROR": mirror,
            "LC_ALL": "C.UTF-8",
            **_proxy(),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as build:
        assert build.stdout is not None
        for line in build.stdout:
            last = [*last[-11:], line.rstrip()]
            tell(stage, line.strip())
    if build.returncode != 0:
        raise LabError("the Debian root can't be built:\n  " + "\n  ".join(last))
    unfinished.rename(place)


def _remove(unfinished: Path) -> None:
    """Remove what an interrupted build left; its mounts went with its namespace."""
    if unfinished.exists():
        shutil.rmtree(unfinished)


def _proxy() -> dict[str, str]:
    """Let debootstrap use the proxy that apt is configured with."""
    done = subprocess.run(
        ["apt-config", "shell", "PROXY", "Acquire::http::Proxy"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.fullmatch(r"PROXY='(.+)'\s*", done.stdout)
    return {"http_proxy": found[1]} if found else {}
