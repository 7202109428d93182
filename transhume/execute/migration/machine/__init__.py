"""One machine: its hypervisors, the sockets that they share with us, and what can be read of their guests."""
