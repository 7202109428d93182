"""Counting frames in the kernel: the program, its object, and the way from there to windows.

`traffic.bpf.c` is the program; `traffic.bpf.o`, built from it by `make bpf`, is what is loaded; that takes
no library, and no compiler. From the ground up: `syscalls` is bpf(2), `objects` reads the object, `counting`
makes tables and loads the program, `tcx` and `clsact` attach it to an interface, `tap` makes windows of what it
counts.
"""
