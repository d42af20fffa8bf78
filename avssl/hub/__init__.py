"""Saved models: pretrained models, classifiers, releases and converters."""
