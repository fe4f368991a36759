"""Bodies and answers as the API shows them: the envelope, runs, queues, dry runs, databases, seeds.

Not here: models of a single route, which stand beside it.
Imports no route and no middleware.
"""
