"""The built-in sample: a migration, and documents and runs to try Whimbrel with.

Not here: what people need to test migrations of their own (`whimbrel.testing`). Imports the domain only.
"""
