"""Labels, splits, folds and subsets of the rows of a manifest."""
