"""Sixteen machines on one bridge, as network namespaces: where the programs run and are watched.

Owns the making and removing of them. Each node has two networks. Its data interface ends in a tap named as
libvirt names them (`vnet3`), a port of a bridge in the hypervisor's namespace: that is what is captured. The
other carries what Open MPI's own daemons say to each other, which a cluster's operator keeps apart too.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import sleep

from transhume.knowledge.model import NOTHING, Interface, IpAddress, MacAddress, Vm, VmName

NODES = 16
DATA_NETWORK = "10.98.0.0/24"
CONTROL_NETWORK = "10.97.0.0/24"
TAPS = "vnet*"
PATIENCE = 100
"""How many looks are taken at what is still alive after it was killed, twenty a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The namespaces of one run; `prefix` begins the names of all."""

    prefix: str

    @property
    def hypervisor(self) -> str:
        """The namespace of the bridges and the taps, from where programs are started."""
        return f"{self.prefix}-hv"

    @property
    def vms(self) -> tuple[Vm, ...]:
        """The nodes as an inventory of VMs has them."""
        return tuple(
            Vm(
                name=VmName(node_name(node)),
                uuid=node_name(node),
                needs=NOTHING,
                interfaces=(
                    Interface(mac=_mac(node), ips=(IpAddress(_address("10.98.0", node)),)),
                ),
            )
            for node in range(NODES)
        )

    def namespaces(self) -> list[str]:
        """All namespaces, the hypervisor's last."""
        nodes = [f"{self.prefix}-{node_name(node)}" for node in range(NODES)]
        return [*nodes, self.hypervisor]

    def kill_all(self) -> None:
        """End whatever still runs in the namespaces; one that is deleted lives on while a process is in it."""
        for _ in range(PATIENCE):
            left = [pid for namespace in self.namespaces() for pid in _running_in(namespace)]
            if not left:
                return
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            sleep(0.05)
        raise RuntimeError(f"processes {left} of {self.prefix} can't be killed")


def node_name(node: int) -> str:
    """Name a node: as a host of Open MPI's and as a VM of ours."""
    return f"n{node:02d}"


def tap_name(node: int) -> str:
    """Name the hypervisor's end of a node's data interface."""
    return f"vnet{node}"


@contextmanager
def built_stage() -> Iterator[Stage]:
    """Build the namespaces, and remove them with all that runs in them."""
    stage = Stage(prefix=f"thf{os.getpid()}")
    try:
        for namespace in stage.namespaces():
            _ip("netns", "add", namespace)
        _batch(stage.hypervisor, _hypervisor_commands())
        for node in range(NODES):
            _batch(stage.hypervisor, _cable_commands(stage, node))
            _batch(f"{stage.prefix}-{node_name(node)}", _node_commands(node))
        yield stage
    finally:
        stage.kill_all()
        for namespace in stage.namespaces():
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


def _hypervisor_commands() -> list[str]:
    return [
        "link set lo up",
        "link add data type bridge",
        "link add control type bridge",
        "link set data up",
        "link set control up",
        f"address add {_address('10.97.0', -9)}/24 dev control",
    ]


def _cable_commands(stage: Stage, node: int) -> list[str]:
    """Plug a node in: a tap on the data bridge, another interface on the control bridge."""
    netns = f"{stage.prefix}-{node_name(node)}"
    tap = tap_name(node)
    return [
        f"link add {tap} type veth peer name eth0 address {_mac(node)} netns {netns}",
        f"link add control{node} type veth peer name eth1 netns {netns}",
        f"link set {tap} master data up",
        f"link set control{node} master control up",
    ]


def _node_commands(node: int) -> list[str]:
    return [
        "link set lo up",
        f"address add {_address('10.98.0', node)}/24 dev eth0",
        f"address add {_address('10.97.0', node)}/24 dev eth1",
        "link set eth0 up",
        "link set eth1 up",
    ]


def _address(network: str, node: int) -> str:
    return f"{network}.{node + 10}"


def _mac(node: int) -> MacAddress:
    return MacAddress(f"52:54:00:f1:de:{node:02x}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _batch(netns: str, commands: list[str]) -> None:
    subprocess.run(
        ["ip", "-n", netns, "-batch", "-"],
        input="\n".join(commands),
        text=True,
        check=True,
        capture_output=True,
    )


def _running_in(netns: str) -> list[int]:
    found = subprocess.run(
        ["ip", "netns", "pids", netns], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]
