"""Data sets on disk: folders and manifests, with their files and labels."""
