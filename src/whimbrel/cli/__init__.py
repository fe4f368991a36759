"""The command line: translates a command into one use case, and shows the answer.

`entry` is the program's entry point, `registry` its table of commands, `main` runs one and ends the program.
"""
