"""The volumes' disks: blank or not, whose filesystem, and the way to its mount."""
