"""The engine of component configuration: schema tables, layers, kinds of value, flags, texts."""
