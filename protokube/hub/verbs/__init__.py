"""What a node does for each verb."""
