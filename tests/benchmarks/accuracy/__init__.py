"""Test Dice of this pipeline's recipe, of a script that fits on a page, and of nnU-Net, on four sets: `make versus`."""
