"""Division of samples into training and validation: held-back splits, folds, few-shot subsets."""
