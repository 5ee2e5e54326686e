"""`protokube etcd`: shows and changes running etcd clusters, by way of this node's own members."""
