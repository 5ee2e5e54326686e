"""Decisions about pods: no I/O, no clock, no logging."""
