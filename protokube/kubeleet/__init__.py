"""kubeleet: a service of N replicas spread over a few machines through Redis."""
