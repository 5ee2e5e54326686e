"""The API server, controller manager, scheduler and proxy: their tables, their pods, and when each is run."""
