"""What several tests of experts need."""

import pytest
import torch


@pytest.fixture
def one_thread() -> None:
    """As an expert's training runs: the networks are too small for more."""
    torch.set_num_threads(1)
