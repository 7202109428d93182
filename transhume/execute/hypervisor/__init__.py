"""Where VMs run and how they are told to move."""
