"""The Kubernetes API over plain HTTP: objects are mappings, and fields that this program doesn't know are kept."""
