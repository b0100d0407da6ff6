"""The variational latent dynamics model: images and actions in, latent states out, and dreams on demand."""
