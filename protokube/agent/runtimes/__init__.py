"""What runs containers, one at a time."""
