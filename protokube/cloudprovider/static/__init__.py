"""The local cloud: an inventory says what a cloud would, and its volumes are disks of this machine."""
