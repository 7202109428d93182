"""Analyze: pure functions from windows and reports to matrices, groups, cuts and symptoms."""
