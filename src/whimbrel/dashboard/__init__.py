"""The dashboard: pages for people, which can be read without JavaScript, over the same use cases as the REST API.

A page is a router in `pages`, a template in `templates`, and where it needs one a module in `static`. Pages are GET and only show; what
changes something is a request of the page's JavaScript to the REST API. No page keeps anything in this process.
"""
