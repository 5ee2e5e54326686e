"""What is given to machines: the one-file program and the Debian package."""
