"""How a migration's bytes get from host to host."""
