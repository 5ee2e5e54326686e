"""nodeup is to prepare a machine for protokube. It isn't begun: nothing stands here yet."""
