"""What can be set, where its value comes from, and what is refused before anything heavy is imported."""
