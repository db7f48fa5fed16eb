"""The embedded control plane: etcd and kube-apiserver as two ordinary programs, for machines without a cluster."""
