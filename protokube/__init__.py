"""protokube turns a bare machine into a Kubernetes control-plane node."""

__version__ = "0.1.0"
