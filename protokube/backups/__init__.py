"""Backups of etcd: taken through its JSON gateway, restored on trial, kept in the store; and restores by command."""
