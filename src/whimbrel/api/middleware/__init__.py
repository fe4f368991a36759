"""What a request passes before its route: admission, authentication, origin, limits, body, idempotency, audit.

Not here: the order in which they stand (`api.app`), and HTTP below them (`api.http_protocol`).
Imports no route.
"""
