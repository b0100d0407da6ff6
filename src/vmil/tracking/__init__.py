"""Where a run's numbers and pictures go: CSV always, MLflow on top."""
