"""A machine's own files, mounts, units and addresses."""
