"""The overlay's data plane at one site: the kernel's devices, rules and tables, and what they do."""

from transhume.execute.overlay.plane.names import detour_device, tunnel_devices
from transhume.execute.overlay.plane.site_plane import SitePlane

__all__ = ["SitePlane", "detour_device", "tunnel_devices"]
