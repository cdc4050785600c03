"""What comes after a search: the best are compared on fresh data, one is trained for good."""
