"""The PKI's adapters: authorities in the store, certificates in the node's directory."""
