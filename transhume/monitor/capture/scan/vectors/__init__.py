"""The engine without a compiler: NumPy over batches of frames, and plain Python for the rare ones.

It starts at once, which makes it the faster one for small captures, and needs nothing that isn't always there.
"""
