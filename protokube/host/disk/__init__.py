"""Work on disks that aren't mounted. It runs in child processes alone, and so imports next to nothing."""
