"""What each of two ranks does in `test_ranks.py`: at the top of a module, so that a new process finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from vmil.config.load import load_config
from vmil.data.ranks import anyone, average_, gathered
from vmil.data.transition import Batch
from vmil.learner.stepping import average_gradients
from vmil.training.build import build_world_model
from vmil.world_model.loss import Frames, elbo_loss
from vmil.world_model.model import preprocess

T, B, A = 6, 4, 2  # agent steps, sequences of both ranks together, numbers of an action
TOY = ("env=counting", "compute=debug", "compute.precision=fp32", "world_model.free_nats=0")


def joint_batch() -> Batch:
    """Random pictures, (T, B)."""
    draw = torch.Generator().manual_seed(3)
    return Batch(
        image=torch.randint(0, 256, (T, B, 64, 64, 3), generator=draw, dtype=torch.uint8),
        proprio=None,
        action=torch.rand(T, B, A, generator=draw),
        is_first=torch.arange(T)[:, None].expand(T, B) == 0,
        terminated=torch.zeros(T, B, dtype=torch.bool),
        num_experts=B,
    )


def model_gradients(columns: slice) -> dict[str, Tensor]:
    """Of the ELBO on these columns of the joint batch, by weight; averaged over the ranks, if there are several."""
    torch.manual_seed(0)
    model = build_world_model(load_config(list(TOY)), A, 0)
    batch = joint_batch()
    image, is_first = preprocess(batch.image)[:, columns], batch.is_first[:, columns]
    noise = model.rssm.latent.noise(T * B, like=image.new_zeros(()))  # of the joint batch, of which each takes its part
    noise = noise.unflatten(0, (T, B))[:, columns]
    posterior, prior = model.observe(image, None, batch.action[:, columns], is_first, noise)
    frames = Frames(image.flatten(0, 1), None)
    loss, _ = elbo_loss(
        model, posterior, prior, frames, None, kl_scale=1.0, kl_balance=0.0, free_nats=0.0, fraction=1.0
    )
    optimizer = torch.optim.Adam(model.parameters())
    loss.backward()
    mean = average_gradients(optimizer.param_groups, loss)
    named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": mean, **named}


def be_one_of_two(rank: int, meeting: Path, out: Path) -> None:
    """Everything that ranks tell each other, written where the test reads it."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    weights = [nn.Parameter(torch.full((2, 3), float(rank))), nn.Parameter(torch.tensor(10.0 * rank))]
    average_(weights)
    found: dict[str, Any] = {
        "gradients": model_gradients(slice(2 * rank, 2 * rank + 2)),
        "average": [weight.detach() for weight in weights],
        "gathered": gathered({"rank": rank}),
        "anyone": [anyone(rank == 1, torch.device("cpu")), anyone(False, torch.device("cpu"))],
    }
    torch.save(found, out / f"rank_{rank}.pt")
    distributed.destroy_process_group()
