"""From simulator and demonstrations to batches of image sequences; never sees a model."""
