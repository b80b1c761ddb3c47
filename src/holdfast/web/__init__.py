"""What answers over HTTP: the API, the health probes, the dashboard."""
