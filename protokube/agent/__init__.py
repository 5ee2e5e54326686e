"""Pods on a machine without kubelet: sources say what is wanted, a provider runs it, reporters tell of it."""
