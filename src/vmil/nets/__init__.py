"""Networks and distributions that know nothing of the algorithm: plain PyTorch, plain values in."""
