"""Which authorities and certificates a node needs, and when each is issued, renewed or refused."""
