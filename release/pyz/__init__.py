"""The one-file program: protokube and nodeup with all that they need but Python itself."""
