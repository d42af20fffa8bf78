"""Health checks of media files, and manifests of the files that pass."""
