"""Volumes of the local cloud that are disk images: for trials and tests, never for a cluster that matters.

An image shares its disk and its filesystem with everything else on the machine: a fault there ends every member at
once. A real node names a disk of its own (`device:` in the inventory).
"""
