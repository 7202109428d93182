"""Monitor: the senses. Frames at the hypervisor or in a file, inventories, prices; it only records what is."""
