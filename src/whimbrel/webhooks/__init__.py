"""Carries deliveries of webhooks to their receivers by HTTP.

Not here: what is sent, when, and to whom (`engine/notifying`).
"""
