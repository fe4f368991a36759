"""The command line: it translates, calls one use case, and answers."""
