"""What `test_elsewhere.py` does in a process of its own: updates and actions on a device that only has shapes.

The device is one that torch lets a program make up, and its tensors are fake: they know shape, type and device, and no
number. So an operation on tensors of two devices fails as on a GPU, and whoever asks a tensor for its value is caught.
"""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorDeviceMismatchError, FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from vmil.algorithms import make_learner
from vmil.config.load import load_config
from vmil.data.pace import Pace
from vmil.data.transition import Batch
from vmil.learner.module import ImitationModule

B, A, P = 4, 3, 2
DEVICE = "elsewhere"


def set_up() -> None:
    """Makes the device known to torch."""
    _setup_privateuseone_for_python_backend(DEVICE)
    module = getattr(torch, DEVICE)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]  # which autocast asks for, even where it is not enabled
    nn.GRUCell.forward = gru_cell  # type: ignore[method-assign]


def gru_cell(cell: nn.GRUCell, inputs: Tensor, hidden: Tensor) -> Tensor:
    """In operations of which torch knows the shapes on any device; of its fused kernel it does not."""
    mine = nn.functional.linear(inputs, cell.weight_ih, cell.bias_ih).chunk(3, -1)
    before = nn.functional.linear(hidden, cell.weight_hh, cell.bias_hh).chunk(3, -1)
    reset, update = (mine[0] + before[0]).sigmoid(), (mine[1] + before[1]).sigmoid()
    return torch.lerp((mine[2] + reset * before[2]).tanh(), hidden, update)


def move(module: nn.Module) -> None:
    """Lays its weights and buffers there; `Module.to` cannot swap real ones for fake ones."""
    there: dict[int, Tensor] = {}
    kept = list(module.state_dict(keep_vars=True).values())  # or an id might be given twice
    for part in module.modules():
        for named in (part._parameters, part._buffers):
            for name, tensor in named.items():
                if tensor is not None:
                    moved = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=DEVICE)
                    if isinstance(tensor, nn.Parameter):
                        moved = nn.Parameter(moved, tensor.requires_grad)
                    named[name] = there.setdefault(id(tensor), moved)
    del kept


def make_batch(learner: ImitationModule, experts: int) -> Batch:
    """Of the size that the learner reads."""
    length, debug = learner.config.training.batch_length, learner.config.debug
    size = learner.config.env.image_size
    return Batch(
        image=torch.zeros(length, B, size, size, 3, dtype=torch.uint8, device=DEVICE),
        proprio=torch.zeros(length, B, P, device=DEVICE),
        action=torch.zeros(length, B, A, device=DEVICE),
        is_first=torch.zeros(length, B, dtype=torch.bool, device=DEVICE),
        num_experts=experts,
        reward=torch.zeros(length, B, device=DEVICE) if debug.use_ground_truth_reward else None,
        terminated=torch.zeros(length, B, dtype=torch.bool, device=DEVICE),
    )


def learn_and_act(*options: str) -> None:
    """An update of each shape and two actions of each policy; the simulator's side of them stays with the host."""
    learner = make_learner(load_config(["env=counting", "compute=debug", "env.proprio=true", *options]), A, P)
    with FakeTensorMode():
        move(learner)
        learner.clock = Pace(learner.config)
        learner._device = torch.device(DEVICE)
        optimizers = learner.configure_optimizers()
        object.__setattr__(learner, "optimizers", lambda: optimizers)
        object.__setattr__(learner, "manual_backward", lambda loss: loss.backward())
        learner.judge_on_device()
        learner.training_step(make_batch(learner, round(B * learner.config.training.demo_fraction)), 0)
        if learner.config.training.pretrain_updates:
            learner.training_step(make_batch(learner, B), 0)
        for policy in (learner.exploration_policy(), learner.evaluation_policy()):
            for first in (True, False):
                image = torch.zeros(1, learner.config.env.image_size, learner.config.env.image_size, 3).byte()
                action = policy(image, torch.zeros(1, P), torch.full((1,), first))
                assert (action.device.type, tuple(action.shape)) == ("cpu", (1, A))


def be_strict() -> None:
    """Two devices in one operation, and asking for a value, are what fails here."""
    with FakeTensorMode():
        there = torch.zeros(2, device=DEVICE)
        for wrong, error in (
            (lambda: there + torch.zeros(2), FakeTensorDeviceMismatchError),
            (lambda: bool(there.isfinite().all()), DataDependentOutputException),
        ):
            with pytest.raises(error):
                wrong()


if __name__ == "__main__":
    set_up()
    be_strict()
    for line in sys.stdin.read().splitlines():
        learn_and_act(*line.split())
        print("done:", line)
