"""The REST API: thin routes over the same use cases that the command line calls.

A request passes the middleware, then a route, which answers by a model. What the routes work with is the deployment.
"""
