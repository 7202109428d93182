"""The files that let Transhume drive a lab: its deployment, and the prices that it starts with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.knowledge.model import Interface
from transhume.lab.agents import SOCKET
from transhume.lab.cloud import Cloud
from transhume.lab.gateways import CONTROL
from transhume.lab.spec import BRIDGE, EDGE, EDGE_VTEP, GATEWAY, GATEWAY_MAC, UNDERLAY, VNI, LabSpec

VCPUS, MEMORY_MIB_PER_VCPU = 8, 128
"""What each host offers, whatever this machine has, as the guests are small and mostly idle; more memory where
all guests together need it."""

EDGE_SITE = "edge"

DEPLOYMENT, PRICES = "transhume.yaml", "prices.yaml"


def overlay_network(spec: LabSpec) -> OverlayNetwork:
    """Describe the lab's overlay: a site for each cloud, and the gateway's."""
    sites = [
        OverlaySite(
            name=cloud.name,
            bridge=BRIDGE,
            underlay=UNDERLAY,
            vtep=cloud.address,
            netns=cloud.netns,
        )
        for cloud in spec.clouds
    ]
    edge = OverlaySite(
        name=EDGE_SITE,
        bridge=BRIDGE,
        underlay=UNDERLAY,
        vtep=EDGE_VTEP,
        netns=EDGE,
        fixed=(Interface(mac=GATEWAY_MAC, ips=(GATEWAY,)),),
    )
    return OverlayNetwork(vni=VNI, sites=(*sites, edge), agents=spec.agents)


def write_deployment(spec: LabSpec, clouds: Sequence[Cloud], state: Path) -> Path:
    """Write the deployment file and its prices; return the former."""
    prices = [
        f"  - {{cloud: {cloud.name}, at: 0s, vcpu: {cloud.vcpu_dollars:.3f}/h, memory: 0.005/GiB/h, "
        "egress: 0.09/GB}"
        for cloud in spec.clouds
    ]
    (state / PRICES).write_text("\n".join(["prices:", *prices, ""]))
    path = state / DEPLOYMENT
    path.write_text(yaml.safe_dump(_deployment(spec, clouds, state), sort_keys=False))
    return path


def _deployment(spec: LabSpec, clouds: Sequence[Cloud], state: Path) -> dict[str, Any]:
    wan = f"{spec.wan_bytes_per_second * 8 / 1e6:g}mbit"
    latency = {"latency": f"{spec.wan_delay_seconds * 2e3:g}ms"} if spec.wan_delay_seconds else {}
    memory_mib = max(VCPUS * MEMORY_MIB_PER_VCPU, sum(guest.memory_mib for guest in spec.guests))
    names = [cloud.name for cloud in spec.clouds]
    pairs = [[one, other] for n, one in enumerate(names) for other in names[n + 1 :]]
    return {
        "window": "5s",
        "clouds": {
            cloud.spec.name: _cloud(cloud, memory_mib) | _gateway(spec, cloud) for cloud in clouds
        },
        "gateways": {
            EDGE_SITE: {
                "netns": EDGE,
                "bridge": BRIDGE,
                "underlay": UNDERLAY,
                "vtep": EDGE_VTEP,
                "addresses": [{"mac": GATEWAY_MAC, "ip": GATEWAY}],
            }
        },
        "overlay": {"vni": VNI, **({"agents": True} if spec.agents else {})},
        "links": [{"between": pair, "rate": wan, **latency} for pair in pairs],
        "prices": {"file": PRICES},
        "knowledge": (
            {"url": f"unix://{state / SOCKET}"}
            if spec.agents
            else {"state_dir": str(state / "knowledge")}
        ),
    }


def _cloud(cloud: Cloud, memory_mib: int) -> dict[str, Any]:
    spec = cloud.spec
    return {
        "region": "lab",
        "overlay": {
            "netns": spec.netns,
            "bridge": BRIDGE,
            "underlay": UNDERLAY,
            "vtep": str(spec.address),
        },
        "hosts": {
            spec.host: {
                "uri": cloud.uri,
                "peer_uri": spec.peer_uri,
                "capture": {"netns": spec.netns, "interfaces": ["vnet*"]},
                "capacity": {"vcpus": VCPUS, "memory": f"{memory_mib}MiB"},
            }
        },
    }


def _gateway(spec: LabSpec, cloud: Cloud) -> dict[str, Any]:
    return {"gateway": {"socket": str(cloud.home / CONTROL)}} if spec.gateways else {}
