"""The local cloud: an inventory says what a cloud would."""
