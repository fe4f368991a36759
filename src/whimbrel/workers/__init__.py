"""Processes: parents, which hold no user code and watch over children; children, which do and may die."""
