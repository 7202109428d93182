"""Where memory pages stand in what QEMU sends when it migrates a guest.

Owns what is known of two formats, the plain stream and multifd's channels. Only annotates: bytes come out as
they went in. Written from the formats as QEMU 7.2 to 10.2 have them; whatever else comes is passed as opaque.
"""

from transhume.execute.migration.stream.reading import END_OF_MEMORY
from transhume.execute.migration.stream.splitter import QemuSplitter

__all__ = ["END_OF_MEMORY", "QemuSplitter"]
