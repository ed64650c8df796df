"""From weights to a submission: members, views, thresholds, masks."""
