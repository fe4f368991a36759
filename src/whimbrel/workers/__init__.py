"""Processes: parents, which hold no user code and watch over children; and children, which hold it and may die."""
