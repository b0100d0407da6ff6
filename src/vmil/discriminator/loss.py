"""Binary cross-entropy of expert (1) against policy (0), with input noise and a gradient penalty."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vmil.config.options import NoiseSchedule, Penalty
from vmil.discriminator.network import Discriminator
from vmil.nets.metrics import Metrics


def noise_std(schedule: NoiseSchedule, std: float, frames: int, anneal_frames: int) -> float:
    """Scale of the Gaussian noise on D's input after `frames` environment frames."""
    if schedule == "none":
        return 0.0
    if schedule == "constant":
        return std
    if schedule == "annealed":
        return std * max(0.0, 1.0 - frames / anneal_frames)
    raise ValueError(f"unknown noise schedule {schedule!r}")


def cross_entropy(logit_expert: Tensor, logit_policy: Tensor) -> Tensor:
    """½ E_expert[−log D] + ½ E_policy[−log(1 − D)], with −log D = softplus(−l) and −log(1 − D) = softplus(l)."""
    return 0.5 * (F.softplus(-logit_expert).mean() + F.softplus(logit_policy).mean())


def input_penalty(discriminator: nn.Module, expert: Tensor, policy: Tensor, target: float) -> tuple[Tensor, Tensor]:
    """E[(‖∂l/∂x‖ − target)²] on random mixtures x of expert and policy inputs (N, I), and the mean norm.

    Target 1 is WGAN-GP's (Gulrajani et al. 2017, eq. 3), which Blondé et al. 2020 found indispensable in imitation.
    """
    mixed = _mixtures(expert, policy).requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(mixed).sum(), mixed, create_graph=True)
    norm = (gradient.square().sum(-1) + 1e-12).sqrt()
    return (norm - target).square().mean(), norm.mean().detach()


def weight_penalty(discriminator: nn.Module, expert: Tensor, policy: Tensor, target: float) -> Tensor:
    """(‖∂E[l(x)]/∂ψ‖ − target)² over all weights ψ of D, on mixtures x as above: V-MAIL's code (`vmail.py`: _train).

    That differentiates by weights where its paper means the input. The last bias alone makes the norm 1, so that at
    target 1 it drives the mean logit's gradient by every other weight to 0, whatever D's slope is.
    """
    weights = [weight for weight in discriminator.parameters() if weight.requires_grad]
    mean = discriminator(_mixtures(expert, policy)).mean()
    gradients = torch.autograd.grad(mean, weights, create_graph=True)
    square = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
    return ((square + 1e-12).sqrt() - target).square()


def _mixtures(expert: Tensor, policy: Tensor) -> Tensor:
    """Each row a random mixture of an expert's (N, I) and a policy's (M, I), detached: (min(N, M), I)."""
    rows = min(len(expert), len(policy))
    share = torch.rand(rows, 1, dtype=expert.dtype, device=expert.device)
    return torch.lerp(policy[:rows], expert[:rows], share).detach()


def penalty_loss(
    kind: Penalty, discriminator: nn.Module, expert: Tensor, policy: Tensor, target: float
) -> tuple[Tensor, Metrics]:
    """The penalty called `kind`, unscaled."""
    if kind == "none":
        return expert.new_zeros(()), {}
    if kind == "weights":
        return weight_penalty(discriminator, expert, policy, target), {}
    if kind == "input":
        penalty, norm = input_penalty(discriminator, expert, policy, target)
        return penalty, {"disc/gradient_at_input": norm}
    raise ValueError(f"unknown penalty {kind!r}")


def discriminator_loss(
    discriminator: Discriminator,
    expert: Tensor,
    policy: Tensor,
    *,
    std: Tensor | float,
    penalty: Penalty,
    penalty_scale: float,
    penalty_target: float,
) -> tuple[Tensor, Metrics]:
    """Cross-entropy on noisy inputs plus the scaled penalty; expert (N, I) and policy (M, I) are detached.

    For the penalty's mixtures the policy's rows are drawn at random, so that unequal N and M lose nothing on average.
    """
    if isinstance(std, Tensor) or std > 0.0:
        expert = expert + std * torch.randn_like(expert)
        policy = policy + std * torch.randn_like(policy)
    logit_expert, logit_policy = discriminator(expert), discriminator(policy)
    loss = cross_entropy(logit_expert, logit_policy)
    rows = torch.randint(len(policy), (len(expert),), device=policy.device)
    extra, metrics = penalty_loss(penalty, discriminator, expert, policy[rows], penalty_target)
    with torch.no_grad():
        right = 0.5 * ((logit_expert > 0).float().mean() + (logit_policy <= 0).float().mean())
        metrics |= {
            "disc/loss": loss.detach(),
            "disc/penalty": extra.detach(),
            "disc/accuracy": right,
            "disc/expert_prob": logit_expert.sigmoid().mean(),
            "disc/policy_prob": logit_policy.sigmoid().mean(),
        }
    return loss + penalty_scale * extra, metrics
