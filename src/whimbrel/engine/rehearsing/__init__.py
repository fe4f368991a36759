"""Before a run: the dry run on a sample, what it predicts, and whether the transform is deterministic and idempotent.

Not here: preflight, which every start asks for (`operating.preflight`).
Imports `operating`.
"""
