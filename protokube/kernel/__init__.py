"""What Linux alone can tell or do, put into words once: mounts, locks, ioctls. Every adapter may lean on it."""
