"""Whether a host passes on what comes in by a device; in the namespace of the calling thread.

For IPv4 each device has a setting of its own. For IPv6 only since Linux 6.17: before, a host passes on
everything or nothing, and one that does forgets the default route that router advertisements gave it, unless
it's told to heed them even so.
"""

from transhume.execute.overlay.gateway.families import IPV4, Family
from transhume.reach import sysctl

_ALL = "ipv6/conf/all/forwarding"
_HEED_ROUTERS, _EVEN_AS_A_ROUTER = "1", "2"


def forwards(family: Family, device: str) -> bool:
    """Say whether the host forwards what comes in by a device."""
    names = (_own(family, device), *(() if family is IPV4 else (_ALL,)))
    return any(sysctl.read(name) == "1" for name in names)


def let_forward(family: Family, device: str) -> None:
    """Have it forward what comes in by a device, and as little else as the kernel can tell apart."""
    if forwards(family, device):
        return
    if (setting := setting_of(family, device)) == _ALL:
        let_all_forward()
    else:
        sysctl.write(setting, "1")


def setting_of(family: Family, device: str) -> str:
    """Return which setting says whether the host forwards what comes in by a device, and perhaps by others."""
    own = _own(family, device)
    return own if family is IPV4 or sysctl.read(own) else _ALL


def switch_off(setting: str) -> None:
    """Have the host forward no more what a setting says; what heeds routers goes on doing so."""
    sysctl.write(setting, "0")


def let_all_forward() -> None:
    """Have the host forward all IPv6, and keep the routes that it has from its routers."""
    for device in sysctl.entries("ipv6/conf"):
        name = f"ipv6/conf/{device}/accept_ra"
        if sysctl.read(name) == _HEED_ROUTERS:
            sysctl.write(name, _EVEN_AS_A_ROUTER)
    sysctl.write(_ALL, "1")


def opened_with(family: Family, uplink: str) -> str:
    """Return what nftables calls the packets that the host forwards besides, once it forwards for `uplink`."""
    return 'iifname != "thvu*"' if setting_of(family, uplink) == _ALL else f'iifname "{uplink}"'


def _own(family: Family, device: str) -> str:
    if family is IPV4:
        return f"ipv4/conf/{device}/forwarding"
    return f"ipv6/conf/{device}/force_forwarding"
