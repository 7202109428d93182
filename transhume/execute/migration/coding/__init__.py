"""Turns pieces of streams into frames and back: each page once, what is new through one long window."""
