"""Where things stand on a volume, relative to its root. Child processes import this, and so it imports nothing."""

IDENTITY_PATH = "k8s.io/identity.yaml"
MANIFESTS = "k8s.io/manifests"
LOST_AND_FOUND = "lost+found/"
