"""Stores: the objects that control-plane nodes share before there is an API server."""
