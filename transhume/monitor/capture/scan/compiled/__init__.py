"""The engine for much work: one kernel that Numba compiles, once in a machine's life.

Everything here is imported only where that engine was chosen, because Numba takes long to import.
"""
