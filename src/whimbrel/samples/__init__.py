"""The built-in sample: a migration, and the documents that it migrates."""
