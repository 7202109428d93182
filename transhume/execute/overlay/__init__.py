"""The virtual network that spans the clouds, and its re-pointing."""

from transhume.execute.overlay.by_agents import ByAgents
from transhume.execute.overlay.none import NoOverlay
from transhume.execute.overlay.protocol import Overlay
from transhume.execute.overlay.vxlan import VxlanOverlay

__all__ = ["ByAgents", "NoOverlay", "Overlay", "VxlanOverlay"]
