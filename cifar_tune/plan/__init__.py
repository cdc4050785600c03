"""What may be asked, and whether it can run."""
