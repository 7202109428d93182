"""The virtual network that spans the clouds, and its re-pointing."""
