"""Talks to etcd over HTTP: to its peer port (GET), and to the JSON gateway on its client port (POST)."""
