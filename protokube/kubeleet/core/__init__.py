"""What kubeleet decides: pure, without I/O, clock and logging."""
