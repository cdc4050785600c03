"""One configuration in one process group."""
