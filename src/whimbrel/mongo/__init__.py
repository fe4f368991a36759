"""All that is said to MongoDB: the user's documents, and in `ledger` what Whimbrel keeps of its runs; `embedded` starts a server.

Not here: what is decided from it (`whimbrel.engine`). Implements `whimbrel.ports`; the engine never imports it, `whimbrel.bootstrap` joins the two.
"""
