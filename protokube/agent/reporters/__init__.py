"""Whom pods are reported to."""
