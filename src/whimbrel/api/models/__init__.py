"""Models of the API's bodies and answers: the envelope, runs, queues, dry runs, databases, seeds.

Not here: models of a single route, which are in its module.
Imports no route and no middleware.
"""
