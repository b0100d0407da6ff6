"""Who is the expert? A classifier of latent transitions, and the reward it implies."""
