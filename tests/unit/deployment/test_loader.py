"""Deployment files: what they mean, and what is said about parts that don't fit."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.deployment.crosschecks import crosschecks
from transhume.deployment.loader import load_deployment
from transhume.deployment.model import (
    CaptureMethod,
    CapturePoint,
    CommonFiles,
    Deployment,
    GatewaySettings,
    Hypervisor,
    OverlayNetwork,
    OverlaySite,
    PrewarmBudget,
    PriceFeed,
    RecordingSettings,
    ShadowSettings,
)
from transhume.deployment.schema import DeploymentSchema
from transhume.errors import InvalidFile
from transhume.knowledge.model import (
    ONLY_NETWORK,
    Cloud,
    CloudName,
    ClusterName,
    Host,
    HostName,
    Link,
)
from transhume.located_yaml import json_schema, read, validate

LAB = """\
window: 2s
traffic_horizon: 1m
clouds:
  a:
    region: lab
    overlay: {netns: thlab-a, bridge: br0, underlay: wan0, vtep: 172.31.66.1}
    hosts:
      a1:
        uri: "qemu+unix:///system?socket=/run/transhume-lab/a/libvirt-sock"
        peer_uri: "qemu+tcp://172.31.66.1/system"
        capture: {netns: thlab-a, interfaces: ["vnet*"]}
  b:
    provider: rented
    hosts:
      b1: {uri: "qemu+tls://b1/system"}
      b2: {}
gateways:
  edge: {netns: thlab-edge, bridge: br0, underlay: wan0, vtep: 172.31.66.100}
overlay: {vni: 66, port: 4790}
links:
  - {between: [a, b], rate: 100mbit, latency: 20ms}
clusters: {blast: ["vm1", "vm3"]}
tags: {gdpr: ["db-*"]}
prices: {file: prices.yaml}
knowledge: {state_dir: /run/transhume-lab/knowledge}
"""


@pytest.fixture
def load(tmp_path):
    def loaded(text):
        path = tmp_path / "t.yaml"
        path.write_text(text)
        return load_deployment(path)

    return loaded


def mistakes(text):
    with pytest.raises(InvalidFile) as refused:
        validate(DeploymentSchema, read(text, "t.yaml"), crosschecks)
    return [str(mistake) for mistake in refused.value.mistakes]


def test_the_file_of_a_lab_means_what_it_says(load, tmp_path):
    a, b = CloudName("a"), CloudName("b")
    assert load(LAB) == Deployment(
        source=str(tmp_path / "t.yaml"),
        clouds=(
            Cloud(name=a, region="lab", networks=frozenset((ONLY_NETWORK,))),
            Cloud(name=b, provider="rented", networks=frozenset()),
        ),
        hosts=(
            Host(name=HostName("a1"), cloud=a),
            Host(name=HostName("b1"), cloud=b),
            Host(name=HostName("b2"), cloud=b),
        ),
        hypervisors=(
            Hypervisor(
                host=HostName("a1"),
                uri="qemu+unix:///system?socket=/run/transhume-lab/a/libvirt-sock",
                peer_uri="qemu+tcp://172.31.66.1/system",
            ),
            Hypervisor(
                host=HostName("b1"), uri="qemu+tls://b1/system", peer_uri="qemu+tls://b1/system"
            ),
        ),
        links=(Link(clouds=frozenset((a, b)), bytes_per_second=12.5e6, latency_seconds=0.02),),
        capture=(CapturePoint(host=HostName("a1"), interfaces=("vnet*",), netns="thlab-a"),),
        window_seconds=2.0,
        traffic_horizon_seconds=60.0,
        networks=(
            OverlayNetwork(
                vni=66,
                port=4790,
                sites=(
                    OverlaySite(
                        name="a", bridge="br0", underlay="wan0", vtep="172.31.66.1", netns="thlab-a"
                    ),
                    OverlaySite(
                        name="edge",
                        bridge="br0",
                        underlay="wan0",
                        vtep="172.31.66.100",
                        netns="thlab-edge",
                    ),
                ),
            ),
        ),
        clusters={ClusterName("blast"): ("vm1", "vm3")},
        tags={"gdpr": ("db-*",)},
        prices=PriceFeed(file=tmp_path / "prices.yaml"),
        state_directory=Path("/run/transhume-lab/knowledge"),
    )


def test_what_is_left_out_is_as_the_model_has_it(load, tmp_path):
    found = load("clouds: {a: {}}")
    bare = Deployment(
        source=str(tmp_path / "t.yaml"),
        clouds=(Cloud(name=CloudName("a")),),
        hosts=(),
        hypervisors=(),
    )
    assert found == bare


def test_several_moves_may_share_a_link(load):
    assert load("clouds: {a: {}}\nmoves_per_link: 4").moves_per_link == 4


def test_prices_and_knowledge_may_be_servers(load):
    found = load(
        "clouds: {a: {}}\nprices: {url: 'http://p/', every: 5s}\nknowledge: {url: 'redis://r'}"
    )
    assert found.prices == PriceFeed(url="http://p/", every_seconds=5.0)
    assert found.knowledge_url == "redis://r"


def test_paths_are_relative_to_the_folder_of_the_file(load, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    found = load("clouds: {a: {}}\nknowledge: {state_dir: state}\nprices: {file: /etc/p.csv}")
    assert found.state_directory == tmp_path / "state"
    assert found.prices is not None
    assert found.prices.file == Path("/etc/p.csv")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("window: 5s", "1:1: the file lacks clouds; add it: the clouds"),
        ("clouds: {}", "1:9: clouds has 0 entries; it must have at least 1"),
        ("clouds:\n  a:", "2:3: a has no value; write one, or remove the key"),
        ("clouds: {'a b': {}}", "1:10: clouds.a b: 'a b' is no name; leave out spaces"),
        (
            "clouds:\n  a: {hosts: {h: {}}}\n  b: {hosts: {h: {}}}",
            "3:15: cloud a has a host h too; rename one of them",
        ),
        (
            "clouds: {a: {}}\nlinks: [{between: [a, c], rate: 1gbit}]",
            "2:23: there is no cloud c; known here: a",
        ),
        (
            "clouds: {a: {}}\nlinks: [{between: [a, a], rate: 1gbit}]",
            "2:19: a link from a to itself; name two clouds",
        ),
        (
            "clouds: {a: {}, b: {}}\nlinks:\n  - {between: [a, b], rate: 1gbit}\n"
            "  - {between: [b, a], rate: 1gbit}",
            "4:15: a second link between b and a; keep one of them",
        ),
        (
            "clouds: {a: {}}\nlinks: [{between: [a], rate: 1gbit}]",
            "2:19: links[0].between has 1 entries; it must have at least 2",
        ),
        (
            "clouds: {a: {}, b: {}}\nlinks: [{between: [a, b], rate: 0mbit}]",
            "2:33: links[0].rate: 0 is too little; write more",
        ),
        (
            "clouds:\n  a:\n    overlay: {bridge: br0, underlay: eth0, vtep: 10.0.0.1}",
            "3:5: a site of an overlay that nobody describes; add `overlay: {vni: 66}`",
        ),
        (
            "clouds: {a: {}}\noverlay: {vni: 1}\n"
            "gateways: {a: {bridge: br0, underlay: eth0, vtep: 10.0.0.1}}",
            "3:12: a cloud is called a too; rename the gateway",
        ),
        (
            "clouds:\n  a: {hosts: {a1: {capture: {interfaces: ['vnet*']}}}}\n"
            "  b: {hosts: {b1: {capture: {}}}}",
            "3:20: the daemon listens to vnet* itself for a1 already; write `remote: true` here, and run "
            "`transhume capture b1`",
        ),
        (
            "clouds: {a: {}}\noverlay: {vni: 1, agents: true}\ngateways:\n"
            "  e: {bridge: br0, underlay: eth0, vtep: 10.0.0.1}\n"
            "  f: {bridge: br0, underlay: eth0, vtep: 10.0.0.1}",
            "5:42: the site in line 4 has 10.0.0.1 too; give each its own",
        ),
        (
            "clouds: {a: {}}\noverlay: {vni: 1}\ngateways:\n"
            "  e: {bridge: br0, underlay: eth0, vtep: 10.0.0.1}\n"
            "  f: {bridge: br1, underlay: eth0, vtep: 10.0.0.2}",
            "5:3: the site in line 4 is in the same network namespace, where the daemon can't have both",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, gateway: {ip: 10.1.0.1}}",
            "2:19: a gateway at each site is the agents' affair; add `agents: true`",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip: 10.1.0.1}}",
            "2:33: no site leads to the outside; give one of them an `uplink`",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip: 10.1.0.1, home: b}}",
            "2:63: home has to be a site with an `uplink`: a",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip: 10.1.0.1, exit: home}}",
            "2:42: overlay.gateway: `exit: home` without a home; write `home: SITE` too",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e,\n"
            "  addresses: [{mac: '52:54:00:7a:ff:01'}]}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip: 10.1.0.1}}",
            "2:15: this is the gateway's, which is at every site; leave it out here",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip: '::1'}}",
            "2:47: overlay.gateway.ip: ::1 is no IPv4 address",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip6: 10.1.0.1}}",
            "2:48: overlay.gateway.ip6: 10.1.0.1 is no IPv6 address; write one such as fd66::1",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip6: 'fd66::1%eth0'}}",
            "2:48: overlay.gateway.ip6: fd66::1%eth0 is no IPv6 address",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip6: 'fe80::1'}}",
            "2:48: overlay.gateway.ip6: fe80::1 isn't known beyond one link; write one such as",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip6: 'fd66::1/64'}}",
            "2:48: overlay.gateway.ip6: fd66::1/64 is no IPv6 address",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {mac: '52:54:00:00:00:01'}}",
            "2:42: overlay.gateway: a gateway without an address; write ip, ip6 or both",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip: 10.1.0.1, prefix_length6: 64}}",
            "2:42: overlay.gateway: prefix_length6 without ip6; write ip6 too, or remove it",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip6: 'fd66::1', prefix_length: 24}}",
            "2:42: overlay.gateway: prefix_length without ip; write ip too, or remove it",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip6: 'fd66::1', prefix_length6: 127}}",
            "2:75: overlay.gateway.prefix_length6 is 127; it must be",
        ),
        (
            "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e,\n"
            "  addresses: [{mac: '52:54:00:00:00:01', ip: 'fd66:0::1'}]}}}\n"
            "overlay: {vni: 1, agents: true, gateway: {ip6: 'fd66::1'}}",
            "2:15: this is the gateway's, which is at every site; leave it out here",
        ),
        ("clouds: {a: {}}\noverlay: {vni: 16777216}", "2:16: overlay.vni is 16777216; it must be"),
        (
            "clouds: {a: {overlay: {bridge: br0, underlay: eth0, vtep: 10.0.0.256}}}\noverlay: {vni: 1}",
            "1:59: clouds.a.overlay.vtep: 10.0.0.256 is no IP address",
        ),
        (
            "clouds: {a: {overlay: {bridge: a-very-long-name, underlay: e, vtep: '::1'}}}\n"
            "overlay: {vni: 1}",
            "1:32: clouds.a.overlay.bridge: a-very-long-name is no name of a device",
        ),
        (
            "clouds: {a: {hosts: {h: {peer_uri: 'qemu+tls://h/system'}}}}",
            "1:25: clouds.a.hosts.h: peer_uri without uri; write uri too",
        ),
        (
            "clouds: {a: {hosts: {h: {uri: h}}}}",
            "1:31: clouds.a.hosts.h.uri: h is no libvirt URI",
        ),
        (
            "clouds: {a: {}}\nclusters: {c: [vm1], d: [vm2, vm1]}",
            "2:31: vm1 is in cluster c already; keep it in one",
        ),
        ("clouds: {a: {}}\ntags: {t: ['']}", "2:12: tags.t[0]: an empty pattern matches nothing"),
        ("clouds: {a: {}}\nprices: {}", "2:9: prices: write either file or url"),
        (
            "clouds: {a: {}}\nprices: {file: p, url: 'http://p'}",
            "2:9: prices: write either file or url",
        ),
        (
            "clouds: {a: {}}\nprices: {url: 'file:///etc/passwd'}",
            "2:15: prices.url: file:///etc/passwd is no URL that works here; begin it with http",
        ),
        (
            "clouds: {a: {}}\nknowledge: {url: 'http://r'}",
            "2:18: knowledge.url: http://r is no URL that works here; begin it with redis",
        ),
        (
            "clouds: {a: {}}\nknowledge: {url: 'reddis://u:se[cret@r'}",
            "2:18: knowledge.url: reddis://***@r is no URL that works here; begin it with redis",
        ),
        ("clouds: {a: {}}\nwindow: 0s", "2:9: window: 0 is too little; write more"),
        ("clouds: {a: {}}\nmoves_per_link: 0", "2:17: moves_per_link is 0; it must be at least 1"),
    ],
    ids=lambda text: text.replace("\n", " ")[-50:],
)
def test_a_mistake_says_where_what_and_what_to_do(text, found):
    (mistake,) = mistakes(text)
    assert mistake.startswith(f"t.yaml:{found}")


@pytest.mark.parametrize(
    "second",
    ["interfaces: ['tap*']", "netns: b", "remote: true"],
    ids=["other interfaces", "another namespace", "listening by itself"],
)
def test_hosts_whose_interfaces_can_be_told_apart_are_let_through(tmp_path, second) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        f"clouds: {{a: {{hosts: {{a1: {{capture: {{}}}}, a2: {{capture: {{{second}}}}}}}}}}}"
    )
    assert len(load_deployment(path).capture) == 2


@pytest.mark.parametrize(
    "second",
    [
        "bridges: {blue: br0}, underlay: eth0, vtep: 10.0.0.2, netns: f",
        "bridges: {green: br1}, underlay: eth0, vtep: 10.0.0.2",
    ],
    ids=["another namespace", "another network"],
)
def test_sites_that_the_daemon_can_look_after_at_once_are_let_through(tmp_path, second) -> None:
    """Of one network it can have only one in a namespace, as its devices have one name."""
    path = tmp_path / "t.yaml"
    path.write_text(
        "clouds: {a: {}}\noverlay: {networks: {blue: {vni: 1}, green: {vni: 2}}}\ngateways:\n"
        "  d: {bridges: {green: br0}, underlay: eth0, vtep: 10.0.0.3, netns: d}\n"
        "  e: {bridges: {blue: br0}, underlay: eth0, vtep: 10.0.0.1}\n"
        f"  f: {{{second}}}"
    )
    assert len(load_deployment(path).networks) == 2


NETWORKS = """
clouds:
  a: {overlay: {underlay: wan0, vtep: 10.0.0.1, bridges: {blue: br0, green: br1}}}
  b: {overlay: {underlay: wan0, vtep: 10.0.0.2, bridges: {green: br0}}}
gateways:
  e:
    underlay: wan0
    vtep: 10.0.0.9
    bridges: {blue: br0, green: br1}
    addresses: [{mac: "52:54:00:00:00:01", ip: 10.9.0.1, network: green}]
overlay: {agents: true, networks: {blue: {vni: 66}, green: {vni: 67}}}
"""


def test_several_networks_have_the_sites_that_name_a_bridge_for_them(load):
    blue, green = load(NETWORKS).networks
    assert [(each.name, each.vni, each.agents) for each in (blue, green)] == [
        ("blue", 66, True),
        ("green", 67, True),
    ]
    assert {site.name: site.bridge for site in blue.sites} == {"a": "br0", "e": "br0"}
    assert {site.name: site.bridge for site in green.sites} == {"a": "br1", "b": "br0", "e": "br1"}
    assert {site.name: len(site.fixed) for site in (*blue.sites, *green.sites) if site.fixed} == {
        "e": 1
    }


def test_a_cloud_has_the_networks_that_it_names_a_bridge_for(load):
    three = NETWORKS.replace("gateways:", "  c: {}\ngateways:")
    assert [(cloud.name, cloud.networks) for cloud in load(three).clouds] == [
        ("a", {"blue", "green"}),
        ("b", {"green"}),
        ("c", set()),
    ]


def test_without_an_overlay_nobody_says_which_networks_clouds_have(load):
    assert [cloud.networks for cloud in load("clouds: {a: {}, b: {}}").clouds] == [None, None]


def test_each_of_several_networks_may_have_a_gateway(load):
    text = NETWORKS.replace("vni: 67", "vni: 67, gateway: {ip: 10.9.0.254, home: b}")
    blue, green = load(text.replace("10.0.0.2,", "10.0.0.2, uplink: eth0,")).networks
    assert blue.gateway is None
    assert (green.gateway.ip, green.gateway.home) == ("10.9.0.254", "b")


GATEWAYS = """clouds: {a: {overlay: {underlay: w, vtep: 10.0.0.1, uplink: u, bridges: {blue: br0, green: br1}}}}
overlay:
  agents: true
  networks:
    blue: {vni: 66, gateway: {ip: 10.1.0.1}}
    green: {vni: 65602, gateway: {ip: 10.2.0.1}}
"""


def test_the_gateways_of_two_networks_need_numbers_that_their_hosts_can_tell_apart(load):
    with pytest.raises(InvalidFile, match="6:18: the network in line 5 has number 66, and both"):
        load(GATEWAYS)


@pytest.mark.parametrize(
    ("was", "written"),
    [
        ("65602", "65603"),
        ("ip: 10.2.0.1", "ip6: 'fd66::1'"),
        (", gateway: {ip: 10.2.0.1}", ""),
    ],
    ids=["other numbers", "IPv6 alone", "no gateway"],
)
def test_numbers_may_be_alike_where_no_two_ipv4_gateways_have_them(load, was, written):
    assert len(load(GATEWAYS.replace(was, written)).networks) == 2


@pytest.mark.parametrize(
    ("was", "written", "found"),
    [
        (
            "agents: true,",
            "agents: true, gateway: {ip: 10.9.0.1},",
            "11:25: of which network? Move it to one, as `networks: {blue: {gateway: …}}`",
        ),
        (
            "vni: 67",
            "vni: 67, gateway: {ip: 10.9.0.254}",
            "11:70: no site leads to the outside; give one of them an `uplink`",
        ),
        (
            "vni: 67",
            "vni: 66",
            "11:66: the network in line 11 has number 66 too; give each its own",
        ),
        (
            "vni: 67",
            "vni: 8388674",
            "11:66: the network in line 11 has number 66, and needs 8388674 for its detours",
        ),
        ("green: br1}}}", "green: br0}}}", "3:77: br0 is network blue's already; give each"),
        (
            "bridges: {green: br0}",
            "bridges: {red: br0}",
            "4:59: there is no network red; known here",
        ),
        (
            "{vni: 67}",
            "{vni: 67}, red: {vni: 68}",
            "11:71: no site has network red; name its bridge under a site's `bridges`, or remove it",
        ),
        (
            "bridges: {green: br0}",
            "bridge: br0",
            "4:49: of which network is this bridge? The overlay has several; write `bridges: {blue: br0}`",
        ),
        (
            "bridges: {green: br0}",
            "bridge: br0, bridges: {green: br0}",
            "4:16: clouds.b.overlay: write either bridge or bridges",
        ),
        (", network: green", "", "10:17: in which network is this? Add `network: blue`"),
        (
            "network: green",
            "network: red",
            "10:67: there is no network red; known here: blue, green",
        ),
        (
            "networks: {blue",
            "vni: 5, networks: {blue",
            "11:10: overlay: write either vni or networks",
        ),
    ],
    ids=[
        "gateway-of-which",
        "gateway-without-exit",
        "number-twice",
        "number-of-detours",
        "bridge-twice",
        "unknown",
        "nobody's",
        "one-bridge",
        "both-forms",
        "address-of-any",
        "address-of-none",
        "number-and-names",
    ],
)
def test_networks_that_contradict_each_other_are_refused(was, written, found):
    assert NETWORKS.count(was) == 1
    (mistake,) = mistakes(NETWORKS.replace(was, written))
    assert mistake.startswith(f"t.yaml:{found}")


def test_bridges_by_name_need_networks_with_names():
    (mistake,) = mistakes(
        "clouds: {a: {overlay: {underlay: w, vtep: 10.0.0.1, bridges: {blue: br0}}}}\noverlay: {vni: 6}"
    )
    assert mistake.startswith("t.yaml:1:53: the overlay's networks have no names; list them as")


def test_all_mistakes_come_at_once():
    lines = mistakes(
        "clouds: {a: {hosts: {h: {}}}, b: {hosts: {h: {}}}}\n"
        "links: [{between: [a, x], rate: 100}]\n"
        "overlai: {vni: 1}\n"
        "window: soon\n"
    )
    assert [line.split(":")[1:3] for line in lines] == [
        ["1", "43"],
        ["2", "23"],
        ["2", "33"],
        ["3", "1"],
        ["4", "9"],
    ]


def test_every_key_has_a_description():
    schema = json_schema(DeploymentSchema)
    for record in (schema, *schema["$defs"].values()):
        assert record["description"]
        for key, inner in record["properties"].items():
            assert inner.get("description"), key


@given(st.data())
def test_any_mutation_of_a_deployment_is_one_or_an_invalid_file(data):
    text = LAB
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        piece = data.draw(st.sampled_from([*"{}[]:,-*&\"' \n0", "no", "a", "[]", "{}", "~", "b1"]))
        text = text[:start] + piece + text[end:]
    try:
        found = validate(DeploymentSchema, read(text, "t.yaml"), crosschecks)
    except InvalidFile as refused:
        told = refused.mistakes
    else:
        assert found.clouds
        return
    assert all(m.line >= 1 and m.column >= 1 and m.message for m in told)


def test_how_a_host_is_captured_may_be_said(load):
    found = load(
        "clouds: {a: {hosts: {h: {capture: {method: ring, cpu_budget: 5%}}, i: {capture: {netns: i}}}}}"
    )

    assert [(point.method, point.cpu_budget) for point in found.capture] == [
        (CaptureMethod.RING, 0.05),
        (CaptureMethod.AUTO, 0.2),
    ]


def test_every_method_of_capture_may_be_written(load):
    for method in CaptureMethod:
        found = load(f"clouds: {{a: {{hosts: {{h: {{capture: {{method: {method}}}}}}}}}}}")
        assert found.capture[0].method is method


def test_a_capture_that_may_cost_nothing_is_refused():
    (found,) = mistakes("clouds: {a: {hosts: {h: {capture: {cpu_budget: 0%}}}}}")

    assert "0 is too little" in found


def test_nothing_is_recorded_or_compared_unless_asked_for(load):
    assert (load("clouds: {a: {}}\n").recording, load("clouds: {a: {}}\n").shadow) == (None, None)


def test_recording_and_shadow_are_relative_to_the_file(load, tmp_path):
    text = (
        "clouds: {a: {}}\nknowledge: {state_dir: state}\n"
        "recording: {at_most: 64MiB}\nshadow: {policies: [other.yaml, /etc/more], every: 1h}\n"
    )
    found = load(text)
    assert found.recording == RecordingSettings(
        folder=tmp_path / "state" / "recording", at_most_bytes=64 << 20
    )
    assert found.shadow == ShadowSettings(
        policies=(tmp_path / "other.yaml", Path("/etc/more")), every_seconds=3600.0
    )
    named = load("clouds: {a: {}}\nrecording: {folder: rec}\n").recording
    assert named == RecordingSettings(folder=tmp_path / "rec")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("recording: {at_most: 0B}", "2:22: .*0 is too little", id="no room"),
        pytest.param("shadow: {policies: []}", "2:20: ", id="no policies"),
        pytest.param("shadow: {policies: [x], every: 0s}", "2:32: ", id="all the time"),
    ],
)
def test_what_makes_no_sense_of_recordings_is_refused(load, text, said):
    with pytest.raises(InvalidFile, match=said):
        load(f"clouds: {{a: {{}}}}\n{text}\n")


def test_what_all_hosts_have_is_named_by_its_paths_there(load):
    text = "clouds: {a: {}}\ndisks: {shared_folders: [/nfs], base_images: [/images/base.qcow2]}\n"
    assert load(text).common_files == CommonFiles(
        shared_folders=("/nfs",), base_images=("/images/base.qcow2",)
    )
    assert load("clouds: {a: {}}\n").common_files == CommonFiles()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("images/base.qcow2", "is meant at every host; write it whole, from / on"),
        ("/nfs/", "/nfs/ goes a roundabout way; write /nfs"),
        ("//nfs/../images", "write /images"),
        ("/", "/ would be everything; name what is meant"),
    ],
)
def test_a_path_that_would_match_nothing_or_everything_is_refused(load, path, said):
    with pytest.raises(InvalidFile, match=f"2:26: disks.shared_folders.*{re.escape(said)}"):
        load(f"clouds: {{a: {{}}}}\ndisks: {{shared_folders: [{path}]}}\n")


GIB = 1 << 30


@pytest.mark.parametrize(
    ("written", "budget"),
    [
        pytest.param("2GiB", PrewarmBudget(bytes_per_vm=2 * GIB), id="an amount alone"),
        pytest.param("{bytes: 2GiB}", PrewarmBudget(bytes_per_vm=2 * GIB), id="in full"),
        pytest.param(
            "{bytes: 2GiB, rate: 20MB/s, dollars: 0.50}",
            PrewarmBudget(bytes_per_vm=2 * GIB, bytes_per_second=2e7, dollars=0.5),
            id="all of it",
        ),
        pytest.param(
            "{bytes: 1GB, dollars: 2}",
            PrewarmBudget(bytes_per_vm=10**9, dollars=2.0),
            id="whole dollars",
        ),
    ],
)
def test_what_may_be_sent_ahead_is_an_amount_or_a_budget(load, written, budget):
    assert load(f"clouds: {{a: {{}}}}\ntransport: {{prewarm: {written}}}\n").prewarm == budget


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2XB", "2:22: transport.prewarm: 2XB is not an amount of memory; write it as in 512MiB"),
        ("2", "2:22: transport.prewarm: 2 has no unit; write an amount of memory with one"),
        ("0B", "2:22: transport.prewarm: 0 is too little; write more"),
        ("[2GiB]", "2:22: transport.prewarm: a quantity belongs here; write it as in 2GiB"),
        ("{bytes: 0B}", "2:30: transport.prewarm.bytes: 0 is too little; write more"),
        (
            "{rate: 20MB/s}",
            "2:13: transport.prewarm lacks bytes; add it: how much for each VM, on the wire",
        ),
        ("{bytes: 1GB, rate: 20MB}", "2:41: transport.prewarm.rate: 20MB is an amount, not a rate"),
        ("{bytes: 1GB, rate: 0MB/s}", "2:41: transport.prewarm.rate: 0 is too little; write more"),
        (
            "{bytes: 1GB, dollars: 0}",
            "2:44: transport.prewarm.dollars is 0; it must be more than 0",
        ),
        ("{bytes: 1GB, dollars: $1}", "2:44: transport.prewarm.dollars is $1; it must be a number"),
        (
            "{bytes: 1GB, dolars: 1}",
            "2:35: unknown key transport.prewarm.dolars; did you mean dollars?",
        ),
    ],
    ids=[
        "no unit that is known",
        "no unit",
        "nothing",
        "a list",
        "nothing in full",
        "no bytes",
        "no rate",
        "standing still",
        "no money",
        "no number",
        "no key",
    ],
)
def test_what_makes_no_sense_of_pre_warming_is_refused_where_it_stands(written, said):
    (mistake,) = mistakes(f"clouds: {{a: {{}}}}\ntransport: {{prewarm: {written}}}\n")
    assert mistake.startswith(f"t.yaml:{said}")


def test_a_gateway_at_each_site(load):
    found = load(
        "clouds:\n  a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: eth0}}\n"
        "  b: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.2}}\n"
        "overlay: {vni: 1, agents: true, gateway: {ip: 10.1.0.1, prefix_length: 16, exit: home, home: a}}"
    )

    assert found.networks[0].gateway == GatewaySettings(
        ip="10.1.0.1", prefix_length=16, mac="52:54:00:7a:ff:01", home="a", exit_at_home=True
    )
    assert [site.uplink for site in found.networks[0].sites] == ["eth0", None]


@pytest.mark.parametrize(
    ("written", "ip", "ip6", "length"),
    [
        ("ip: 10.1.0.1, ip6: 'FD66:0::1'", "10.1.0.1", "fd66::1", 64),
        ("ip6: 'fd66::1', prefix_length6: 112", None, "fd66::1", 112),
    ],
    ids=["both", "IPv6 alone"],
)
def test_a_gateway_that_speaks_ipv6(load, written, ip, ip6, length):
    found = load(
        "clouds: {a: {overlay: {bridge: b, underlay: e, vtep: 10.0.0.1, uplink: e}}}\n"
        f"overlay: {{vni: 1, agents: true, gateway: {{{written}}}}}"
    )

    gateway = found.networks[0].gateway
    assert (gateway.ip, gateway.ip6, gateway.prefix_length6) == (ip, ip6, length)
