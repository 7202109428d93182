"""Plan: pure functions from a snapshot and the policies to a plan with reasons, or the reason for none."""
