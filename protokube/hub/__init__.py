"""A fleet behind NAT: nodes dial out to a hub and take typed commands. There is no shell."""
