"""The imperative shell: watches in, decisions out. `kube.py` is the only writer to the API."""
