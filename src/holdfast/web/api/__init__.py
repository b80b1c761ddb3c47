"""The HTTP API: routes under /api."""
