"""The virtual networks that span the clouds, and their re-pointing."""

from transhume.execute.overlay.by_agents import ByAgents
from transhume.execute.overlay.networks import Networks
from transhume.execute.overlay.protocol import Overlay
from transhume.execute.overlay.vxlan import VxlanOverlay

__all__ = ["ByAgents", "Networks", "Overlay", "VxlanOverlay"]
