"""kubelet: its table, its defaults, its files, and when it starts."""
