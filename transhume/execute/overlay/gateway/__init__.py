"""A virtual network's default gateway: the same at every site, and open connections survive moves."""

from transhume.execute.overlay.gateway.site_gateway import SiteGateway
from transhume.execute.overlay.gateway.wiring import with_gateway

__all__ = ["SiteGateway", "with_gateway"]
