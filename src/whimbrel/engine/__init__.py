"""The use cases: what Whimbrel does, told by ports; no driver, broker or framework is known here.

A room a concern; docs/architecture.md shows them in one picture. A room imports those below it, `whimbrel.domain` and `whimbrel.ports`.
In no room, for all use them: the numbered steps of the protocol, and the one rule when a repeated error pauses a run.
"""
