"""The use cases: what Whimbrel does. They talk to ports and know no driver, broker or framework.

One package for each concern; docs/architecture.md shows them in one picture. A package imports those below it, `whimbrel.domain` and `whimbrel.ports`.
Outside the packages, because all of them use it: the numbered steps of the protocol, and the one rule for when a repeated error pauses a run.
"""
