"""Objects of the cluster that a first start needs, and that protokube keeps."""
