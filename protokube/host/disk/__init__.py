"""What touches a disk that isn't mounted. All of it runs in child processes, and so imports next to nothing."""
