"""Disks in flight: the NBD connections over which QEMU's block mirror writes to a migration's destination."""

from transhume.execute.migration.nbd.splitter import NbdSplitter

__all__ = ["NbdSplitter"]
