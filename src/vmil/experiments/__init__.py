"""The paper's comparisons: grids of ordinary runs, worked off side by side."""
