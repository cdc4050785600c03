"""What comes after a search: the best are compared on fresh images, one is trained for good."""
