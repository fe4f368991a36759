"""One module a screen: reads what it shows by the use cases, and renders its template. Listed in `whimbrel.dashboard.app`."""
