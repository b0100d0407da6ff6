"""Actor and critic: how to act so that the discriminator sees an expert."""
