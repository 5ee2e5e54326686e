"""Names: who owns them, what stands there, and what to change."""
