"""Fetches, verifies and installs a node's binaries and archives."""
