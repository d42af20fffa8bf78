"""A trained model on labeled rows: fine-tuning, probing, localization, robustness and labeling."""
