"""Metrics that Prometheus scrapes of a server: requests, nights, and how good the answers are."""
