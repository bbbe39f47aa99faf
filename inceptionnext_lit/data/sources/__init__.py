"""Data sets as they lie on disk: folders, manifests, and which files and labels they have."""
