"""Ways to find groups, and the means to choose among them."""
