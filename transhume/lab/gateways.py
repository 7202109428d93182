"""The lab's gateways: one beside each cloud's libvirt daemon, with certificates of the lab's own authority.

A gateway is the same program as anywhere else. It runs in its cloud's network namespace, sees the cloud's
sockets and processes from outside, and outlives whoever started the lab; `leftovers` ends it.
"""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from transhume.errors import LabError
from transhume.execute.migration.machine.sockets import is_listening
from transhume.execute.migration.trust import Authority, Peer, PeerKind, init_authority
from transhume.lab.cloud import Cloud
from transhume.lab.detached import start_detached
from transhume.reach.netns import NAMED

CONFIGURATION = "gateway.yaml"
CONTROL = "gateway.sock"
SOCKETS = PurePosixPath("/run/libvirt/transhume")
"""As the clouds' hypervisors see them."""
_LIFETIME = timedelta(days=30)
_PATIENCE_SECONDS = 60.0


def start_gateways(clouds: Sequence[Cloud], image: Path | None, state: Path) -> None:
    """Start a gateway at each cloud and return when all answer.

    Args:
        clouds: they run.
        image: the guests' image, which every cloud has.
        state: the lab's.

    Raises:
        LabError: one doesn't start.
    """
    authority = init_authority(state / "authority")
    for cloud in clouds:
        prepare_gateway(cloud, clouds, authority, image)
        start_gateway(cloud)
    for cloud in clouds:
        wait_for_gateway(cloud)


def start_gateway(cloud: Cloud) -> int:
    """Start a cloud's gateway, which was prepared; return its process number."""
    words = [
        *("nsenter", f"--net={NAMED / cloud.spec.netns}"),
        *(sys.executable, "-m", "transhume", "gateway"),
        *("--config", str(cloud.home / CONFIGURATION)),
    ]
    return start_detached(words, log_of(cloud))


def wait_for_gateway(cloud: Cloud) -> None:
    """Wait until a cloud's gateway answers.

    Raises:
        LabError: it doesn't.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_listening(cloud.home / CONTROL):
        if time.monotonic() > deadline:
            log = log_of(cloud)
            raise LabError(
                f"the gateway of cloud {cloud.spec.name} doesn't start: {log.read_text()[-500:]}"
            )
        time.sleep(0.05)


def log_of(cloud: Cloud) -> Path:
    """Return where a cloud's gateway writes its log."""
    return cloud.home / "log/gateway.log"


def prepare_gateway(
    cloud: Cloud,
    clouds: Sequence[Cloud],
    authority: Authority,
    image: Path | None,
    **changes: Any,
) -> None:
    """Write a gateway's configuration, with an identity.

    Args:
        cloud: its own.
        clouds: all that have one.
        authority: the lab's.
        image: the guests', which every cloud has.
        changes: keys of the configuration that are to be otherwise.
    """
    peer = Peer(kind=PeerKind.SITE, name=cloud.spec.name)
    authority.issue(peer, cloud.home / "identity", lifetime=_LIFETIME, now=datetime.now(UTC))
    written = _configuration(cloud, clouds, image) | changes
    (cloud.home / CONFIGURATION).write_text(yaml.safe_dump(written, sort_keys=False))


def _configuration(cloud: Cloud, clouds: Sequence[Cloud], image: Path | None) -> dict[str, Any]:
    return {
        "site": str(cloud.spec.name),
        "listen": cloud.spec.gateway,
        "identity": "identity",
        "control": CONTROL,
        "peers": {
            str(other.spec.name): other.spec.gateway for other in clouds if other is not cloud
        },
        "sockets": {"folder": f"libvirt/{SOCKETS.name}", "seen": str(SOCKETS)},
        "pids": "libvirt/qemu",
        "images": [{"path": str(image)}] if image else [],
        "store": {"folder": "store"},
        "admit": [{"sources": ["*"]}],
    }
