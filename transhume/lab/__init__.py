"""Lab: real clouds on one Linux machine, for demonstrations and system tests."""
