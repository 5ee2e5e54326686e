"""Cloud providers, one module each, imported when chosen. They execute; they never decide."""
