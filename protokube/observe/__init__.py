"""Ports → View: each facet of the world is read once a reconcile, and judged."""
