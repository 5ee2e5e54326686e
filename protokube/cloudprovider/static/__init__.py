"""The local cloud: an inventory in place of a cloud's API, whose volumes are disks of this machine."""
