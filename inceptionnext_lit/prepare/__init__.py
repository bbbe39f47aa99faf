"""Turn public data sets into folders and manifests that all commands read."""
