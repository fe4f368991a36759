"""The REST API: thin routes over the same use cases that the command line calls."""
