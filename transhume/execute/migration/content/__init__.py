"""What is known at both ends of a link: pages, by digest where they are sent from, by position everywhere."""
