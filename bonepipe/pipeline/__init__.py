"""What the commands do: experiments, their run folders, folds, cross-validation, predictors, submissions."""
