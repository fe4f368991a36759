"""The routes, a module for each part of the API: each calls a use case of the engine and answers by a model.

Not here: what all requests pass (`middleware`), and how answers look (`models`). Imports both.
"""
