"""One start of a search, from plan to outcome."""
