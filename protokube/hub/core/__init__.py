"""What hub, node and operator decide: no I/O, no clock, no logging."""
