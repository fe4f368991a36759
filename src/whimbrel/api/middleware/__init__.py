"""What a request passes before its route: admission, authentication, origin, limits, body, idempotency, audit.

Not here: their order (`api.app`), and the HTTP below them (`api.http_protocol`).
Imports no route.
"""
