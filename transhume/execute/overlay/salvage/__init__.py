"""What waits in the tap of a VM that has stopped and is about to go: it is sent on to where the VM goes."""

from transhume.execute.overlay.salvage.salvager import Salvager

__all__ = ["Salvager"]
