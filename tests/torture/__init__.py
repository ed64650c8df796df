"""What becomes of runs whose commands are killed, stopped, starved of disk, or meet damaged files: see `__main__`."""
