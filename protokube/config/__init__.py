"""The configuration: its options, reading it, and the choice of adapters that it leads to."""
