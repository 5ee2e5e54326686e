"""nodeup prepares a machine for protokube: files, units and binaries. It never starts kubelet."""
