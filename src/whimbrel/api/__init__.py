"""The REST API: thin routes over the use cases that the command line calls too.

A request passes the middleware, then a route, which answers by a model. The routes work with the deployment.
"""
