"""From the files on disk to batches."""
