"""Before a run: the dry run on a sample, its predictions, and whether the transform is deterministic and idempotent.

Not here: preflight, which every start performs (`operating.preflight`).
Imports `operating`.
"""
