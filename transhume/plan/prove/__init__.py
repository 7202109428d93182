"""Proves that a plan is the best there is: branch and bound by others, in processes of their own, side by side.

`proving.prove` begins with what a quick search found and certified. Two provers then look for anything cheaper:
toulbar2 (the extra `[prove]`), best up to some 60 VMs, and HiGHS through SciPy, up to some 200. The first proof
wins. A prover that is killed, fails, or runs out of time costs nothing but the proof.
"""
