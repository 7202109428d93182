"""The lab's gateways, killed and begun again."""

import os
import signal
from pathlib import Path

from transhume.lab import leftovers
from transhume.lab.gateways import CONFIGURATION, CONTROL, start_gateway, wait_for_gateway
from transhume.lab.lab import Lab


def kill_gateway(lab: Lab, cloud: str) -> None:
    configuration = str(lab.cloud(cloud).home / CONFIGURATION)
    found = [
        pid
        for pid in leftovers.find_processes(lab.state)
        if configuration in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    ]
    assert len(found) == 1, found
    os.kill(found[0], signal.SIGKILL)


def restart_gateway(lab: Lab, cloud: str) -> None:
    (lab.cloud(cloud).home / CONTROL).unlink(missing_ok=True)
    start_gateway(lab.cloud(cloud))
    wait_for_gateway(lab.cloud(cloud))
