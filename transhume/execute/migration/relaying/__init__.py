"""Lets one gateway serve all hosts of its site: a relay at each other one, which knows nothing of pages."""
