"""Checks that our update equals the reference's: losses and gradients, in fp32, from the same weights and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vmil.bench.loose_learner import LooseLearner
from vmil.bench.reference import Reference
from vmil.data.transition import Batch
from vmil.learner.device import matmul_precision
from vmil.nets.conv import as_transposed

LOSS_TOLERANCE = 1e-4  # relative
GRADIENT_TOLERANCE = 1e-3  # of a weight's gradient, relative to its norm; sums in another order differ by that
SMALL = 1e-3  # share of the largest gradient norm of a part below which a difference is measured against that share

Read = Callable[[Tensor], Tensor]


def make_reference(learner: LooseLearner) -> Reference:
    """The reference with a copy of the learner's weights, on its device."""
    reference = Reference(learner.config, learner.actor.action_size).to(learner.device)
    weights = in_reference_layout(learner, lambda weight: weight.detach())
    reference.load_state_dict({name: weight.contiguous() for name, weight in weights.items()})
    reference.make_optimizers()
    return reference


def in_reference_layout(learner: LooseLearner, read: Read) -> dict[str, Tensor]:
    """`read` of each of the learner's weights, under the reference's names and in its layouts."""
    model, rssm = learner.world_model, learner.world_model.rssm
    found: dict[str, Tensor] = {}

    def put(name: str, *modules: nn.Module, first: int = 0) -> None:
        for position, layer in enumerate(_layers(*modules), first):
            for kind, weight in layer.named_parameters(recurse=False):
                found[f"{name}.{2 * position}.{kind}"] = read(weight)

    put("model.encoder", model.encoder.layers)
    put("model.inputs", rssm.inputs)
    found |= {f"model.cell.{kind}": read(weight) for kind, weight in rssm.cell.named_parameters()}
    put("model.prior", rssm.prior_head)
    put("model.posterior", rssm.from_deter, rssm.posterior_head)
    joint = "model.posterior.0.weight"  # W [h, e], which we hold as two matrices
    found[joint] = torch.cat([found[joint], read(rssm.from_embedding.weight)], 1)
    found |= {f"model.project.{kind}": read(weight) for kind, weight in model.decoder.project.named_parameters()}
    transposed = as_transposed(read(model.decoder.first.weight))
    found |= {"model.decoder.0.weight": transposed, "model.decoder.0.bias": read(model.decoder.first_bias)}
    put("model.decoder", model.decoder.rest, first=1)
    put("discriminator", learner.discriminator.net)
    put("actor", learner.actor.net)
    put("critic", learner.critic.net)
    return found


def _layers(*modules: nn.Module) -> list[nn.Module]:
    """Those with weights, in order."""
    return [layer for module in modules for layer in module.modules() if list(layer.parameters(recurse=False))]


class Difference(NamedTuple):
    """How far a loss, or a weight's gradient, is from the reference's."""

    name: str
    relative: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether it is within tolerance; a nan is not."""
        return self.relative <= self.tolerance


def compare(learner: LooseLearner, reference: Reference, batch: Batch, seed: int = 0) -> list[Difference]:
    """One update of each on the same batch, from the same seed; the learner must compute in fp32."""
    learner.means.drain()
    with full_precision():
        torch.manual_seed(seed)
        learner.training_step(batch, 0)
        ours = learner.means.drain()
        torch.manual_seed(seed)
        theirs = {name: float(loss) for name, loss in reference.update(batch).items()}
    losses = [Difference(name, _relative(ours[name], value), LOSS_TOLERANCE) for name, value in theirs.items()]
    gradients = in_reference_layout(
        learner, lambda weight: torch.zeros_like(weight) if weight.grad is None else weight.grad
    )
    return losses + _gradient_differences(gradients, dict(reference.named_parameters()))


def worst(differences: list[Difference]) -> Difference:
    """The one that uses up most of its tolerance."""
    return max(differences, key=lambda d: float("inf") if d.relative != d.relative else d.relative / d.tolerance)


def _relative(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / max(abs(theirs), 1e-6)


def _gradient_differences(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> list[Difference]:
    if ours.keys() != reference.keys():
        raise ValueError(f"weights on one side only: {sorted(ours.keys() ^ reference.keys())}")
    theirs = {name: weight.grad for name, weight in reference.items() if weight.grad is not None}
    norms = {name: float(gradient.norm()) for name, gradient in theirs.items()}
    found = []
    for name, gradient in theirs.items():
        largest = max(norm for other, norm in norms.items() if other.partition(".")[0] == name.partition(".")[0])
        scale = max(norms[name], SMALL * largest)
        difference = float((ours[name] - gradient).norm())
        found.append(Difference(f"gradient of {name}", difference / scale if scale else difference, GRADIENT_TOLERANCE))
    return found


@contextmanager
def full_precision() -> Iterator[None]:
    """fp32 products in fp32: no TF32, on either side."""
    cudnn = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with matmul_precision("highest"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = cudnn
