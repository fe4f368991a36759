"""The command line: it translates, calls one use case, and answers.

`entry` is the program's first lines, `registry` its table of commands, `main` how it ends.
"""
