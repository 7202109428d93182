"""A site's agent: it knows where each address of the overlay is, and lets the kernel do accordingly."""
