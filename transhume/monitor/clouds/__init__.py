"""What clouds tell about themselves: inventories, capacity, prices."""
