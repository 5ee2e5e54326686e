"""etcd's members: templates, bootstrap rules, manifests and the links to them."""
