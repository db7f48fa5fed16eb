"""Places to get etcd, kube-apiserver and kubectl from, one file each; binaries.py tries them in order."""
