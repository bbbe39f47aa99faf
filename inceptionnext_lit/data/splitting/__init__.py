"""Which samples are trained on and which are held back: validation splits, folds, few-shot subsets."""
