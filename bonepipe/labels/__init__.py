"""Label mathematics: bit-planes, polygons, run-length algebra, Dice. Imports nothing else of the project."""
