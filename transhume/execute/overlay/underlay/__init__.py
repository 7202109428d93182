"""Encrypted paths between sites, through NAT: WireGuard, keyed by the sites' certificates.

Names are imported when they are first used: programming devices needs the extra [libvirt], and certificates
need [gateway].
"""

from typing import TYPE_CHECKING, Final

from transhume.names_on_demand import names_on_demand

if TYPE_CHECKING:
    from transhume.execute.overlay.underlay.mesh import Mesh
    from transhume.execute.overlay.underlay.pair import PathKind
    from transhume.execute.overlay.underlay.plan import PeerState
    from transhume.execute.overlay.underlay.settings import TunnelNetwork, UnderlaySettings

_MODULES: Final = {
    "mesh": ("Mesh",),
    "pair": ("PathKind",),
    "plan": ("PeerState",),
    "settings": ("TunnelNetwork", "UnderlaySettings"),
}

__all__ = ["Mesh", "PathKind", "PeerState", "TunnelNetwork", "UnderlaySettings"]

__getattr__ = names_on_demand(__name__, _MODULES)
