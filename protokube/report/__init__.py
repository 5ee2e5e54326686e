"""The report of a reconcile: its steps and the rest, for people and for scripts."""
