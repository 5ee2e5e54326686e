"""What a reconcile did and what is left, for people and for scripts."""
