"""Disk images behind loop devices: for trials and tests, never for a cluster that matters."""
