"""The built-in sample: a migration, and documents and runs to try Whimbrel with."""
