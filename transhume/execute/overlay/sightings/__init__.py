"""The overlay's eyes at one site: which VM's address was seen at which port of the bridge."""

from transhume.execute.overlay.sightings.sighting import How, Missed, Sighting
from transhume.execute.overlay.sightings.sightings import Sightings

__all__ = ["How", "Missed", "Sighting", "Sightings"]
