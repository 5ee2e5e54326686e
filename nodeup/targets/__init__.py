"""What a configuration is applied to: this machine, the tree of an image, or user-data for a machine to come."""
