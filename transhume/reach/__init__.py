"""Reach: how this process gets at the machine and its neighbours: namespaces, libvirt connections, signals."""
