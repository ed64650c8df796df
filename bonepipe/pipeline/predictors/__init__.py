"""What makes masks of radiographs: a run, an ensemble of runs, or a cascade of either with a run that looks closely."""
