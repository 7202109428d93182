"""Views: what the commands show, on the terminal and as HTML."""
