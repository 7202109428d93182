"""Policies: the language in which users say what they want."""
