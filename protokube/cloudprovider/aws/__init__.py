"""The AWS cloud: EC2 volumes and instance metadata."""
