"""Frames, from files and from live interfaces, as windows of traffic."""
