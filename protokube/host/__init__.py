"""Adapters to this machine: block devices, files, network and systemd."""
