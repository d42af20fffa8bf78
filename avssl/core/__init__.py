"""Batches, manifests, random draws and other parts that everything else stands on."""
