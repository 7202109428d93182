"""Two virtual networks at three sites, with the same addresses in both, looked after by one agent a site."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from pyroute2 import netns as namespaces

from tests.system.overlay_frames import drained, ear
from tests.system.overlay_sites import (
    FIXED,
    MAC,
    MOVER,
    MOVER_IP,
    NETWORK,
    PORT,
    SITES,
    fixed_ip,
    hears,
    index,
    make_bridge,
    netns_of,
    plug,
    put_mover_at,
    remember_mover,
    three_sites,
)
from tests.system.running import redis_in
from tests.system.test_overlay_encrypted import agent, now
from transhume.cli.overlay import command
from transhume.daemon.composition import networks_of
from transhume.deployment.loader import load_deployment
from transhume.knowledge.model import (
    Interface,
    MacAddress,
    Resources,
    VirtualNetworkName,
    Vm,
    VmName,
)
from transhume.knowledge.store import Store
from transhume.reach.netns import inside, netlink_in, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

GREEN_MOVER = "thtest-green"
GREEN_FIXED = {site: f"thtest-green-{site}" for site in SITES}
BRIDGES = {"blue": "br0", "green": "br1"}
MOVERS = {"blue": MOVER, "green": GREEN_MOVER}
AT = {"blue": FIXED, "green": GREEN_FIXED}
VNIS = {"blue": 99, "green": 98}


@contextmanager
def green_too() -> Iterator[None]:
    """Give each of the three sites a second bridge, with the same addresses behind it as the first has."""
    made = [GREEN_MOVER, *GREEN_FIXED.values()]
    try:
        for netns in made:
            namespaces.create(netns)
            with inside(netns):
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        for site, netns in GREEN_FIXED.items():
            with netlink_in(netns_of(site)) as netlink:
                make_bridge(netlink, 1500, "br1")
            mac = str(mac_in(FIXED[site]))
            plug(netns, netns_of(site), "eth0", "gfixed", fixed_ip(site), address=mac, bridge="br1")
            remember_mover(netns)
        plug(
            GREEN_MOVER,
            netns_of("a"),
            "eth0",
            "gmover",
            MOVER_IP,
            address=str(MAC),
            bridge="br1",
        )
        yield
    finally:
        for netns in made:
            with suppress(FileNotFoundError):
                namespaces.remove(netns)


def mac_in(netns: str) -> MacAddress:
    with netlink_in(netns) as netlink:
        (link,) = netlink.link("get", index=index(netlink, "eth0"))
        return MacAddress(link.get("address"))


def deployment(folder: Path, url: str) -> Path:
    sites = {
        site.name: {
            "netns": site.netns,
            "bridges": BRIDGES,
            "underlay": site.underlay,
            "vtep": site.vtep,
            "addresses": [
                {
                    "mac": str(mac_in(FIXED[site.name])),
                    "ip": fixed_ip(site.name),
                    "network": network,
                }
                for network in BRIDGES
            ],
        }
        for site in NETWORK.sites
    }
    written = {
        "clouds": {name: {"overlay": site} for name, site in sites.items()},
        "overlay": {
            "agents": True,
            "networks": {name: {"vni": vni} for name, vni in VNIS.items()},
        },
        "knowledge": {"url": url},
    }
    path = folder / "transhume.yaml"
    path.write_text(yaml.safe_dump(written))
    return path


def vm_on(network: str) -> Vm:
    interface = Interface(mac=MAC, network=VirtualNetworkName(network))
    needs = Resources(vcpus=1, memory_bytes=1)
    return Vm(name=VmName(network), uuid=network, needs=needs, interfaces=(interface,))


def test_networks_with_the_same_addresses_have_nothing_to_do_with_each_other(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("n")
    asyncio.run(_with_knowledge(folder))


async def _with_knowledge(folder: Path) -> None:
    async with redis_in(folder) as server:
        await asyncio.to_thread(_look, folder, server.url)


def _look(folder: Path, url: str) -> None:
    with three_sites(), green_too(), ExitStack() as stack:
        config = deployment(folder, url)
        for site in SITES:
            stack.enter_context(agent(site, config))
        asyncio.run(_move(config, url, "blue", None, "a"))
        asyncio.run(_move(config, url, "green", None, "a"))
        _reached_everywhere("blue")
        _reached_everywhere("green")
        ears = {name: stack.enter_context(closing(ear(MOVERS[name], "eth0"))) for name in MOVERS}
        _no_frame_crosses(ears)

        put_mover_at("b")
        asyncio.run(_move(config, url, "blue", "a", "b"))
        _reached_everywhere("blue")
        _reached_everywhere("green")
        assert asyncio.run(_bound(url)) == {"blue": ("b", 2), "green": ("a", 1)}
        ears["blue"].close()
        ears["blue"] = stack.enter_context(closing(ear(MOVER, "eth0")))
        _no_frame_crosses(ears)
        _agents_tell(config)


def _reached_everywhere(network: str) -> None:
    for site in SITES:
        assert hears(site, mover=MOVERS[network], fixed=AT[network]), (
            network,
            site,
        )


def _no_frame_crosses(ears: dict) -> None:
    """Let everybody speak to the mover of his network, and to everybody in it; see who hears it."""
    for opened in ears.values():
        drained(opened)
    for network, fixed in AT.items():
        for netns in fixed.values():
            with closing(socket_in(netns, kind=2)) as mouth:
                mouth.setsockopt(1, 6, 1)  # SO_BROADCAST
                for to in (MOVER_IP, "10.99.0.255"):
                    mouth.sendto(f"only for {network}".encode(), (to, PORT))
    time.sleep(0.5)
    for network, opened in ears.items():
        heard = drained(opened)
        (other,) = set(ears) - {network}
        assert sum(f"only for {network}".encode() in each for each in heard) == 2 * len(SITES)
        assert not any(f"only for {other}".encode() in each for each in heard)


async def _move(config: Path, url: str, network: str, source: str | None, to: str) -> None:
    """Say where the mover of a network is, as the executor does."""
    async with Store.connect(url, clock=now) as store:
        overlay = networks_of(load_deployment(config), store).of(vm_on(network))
        async with overlay.hand_over(VmName(network), [MAC], source or to, to):
            await overlay.bind([MAC], to)
        assert await overlay.check([MAC], to) == ()


async def _bound(url: str) -> dict[str, tuple[str, int]]:
    async with Store.connect(url, clock=now) as store:
        wholes = {name: await store.register(vni).read() for name, vni in VNIS.items()}
    return {
        name: (whole.bindings[MAC].site, whole.bindings[MAC].sequence)
        for name, whole in wholes.items()
    }


def _agents_tell(config: Path) -> None:
    def said(*words: str) -> str:
        found = CliRunner().invoke(command, [*words, "--config", str(config)])
        assert found.exit_code == 0, (found.output, found.exception)
        return found.output

    assert "consistent" in said("check")
    both, one = said("status"), said("status", "--network", "green")
    assert "of network blue" in both
    assert "of network blue" not in one
    assert "of network green" in both
    assert "of network green" in one
