"""What a machine holds beside its volumes: files, mounts and units."""
