"""Visual imitation from a few demonstrations: a variational world model, a latent discriminator, and a policy trained
in imagination.
"""

__version__ = "0.1.0"
