"""Reach: how this process gets at the machine and its neighbours: namespaces, settings, libvirt, signals."""
