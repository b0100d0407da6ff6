"""The paper's comparisons: grids of ordinary runs, side by side."""
