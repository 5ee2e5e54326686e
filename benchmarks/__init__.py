"""Figures, measured: each benchmark compares what it can within one run, so that a slow machine doesn't lie."""
