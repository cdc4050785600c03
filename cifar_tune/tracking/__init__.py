"""Where results are shown besides the results folder."""
