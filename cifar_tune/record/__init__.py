"""What happened: the journal, and all that is derived from it; knows neither Ray nor torch."""
