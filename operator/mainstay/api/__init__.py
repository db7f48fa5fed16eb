"""The public API: one pydantic model per kind. The CRDs in `crds/` are generated from these."""
