"""Backups of etcd: when one is due, who takes it, which are kept, and what a restore may do."""
