"""From weights to a submission: fold models, views, thresholds, post-processing, ensembles."""
