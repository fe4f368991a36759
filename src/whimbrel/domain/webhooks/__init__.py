"""What is told to receivers of webhooks: addresses, events, signatures, deliveries.

Belongs here: how an address is read and judged, what an event says, how it is signed. Not here: sending it, and storing it.
Imports: domain.runs, domain.text, errors.
"""
