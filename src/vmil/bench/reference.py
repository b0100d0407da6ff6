"""One update of the paper as plainly as it can be written: the yardstick of `vmil bench`, used for nothing else.

Eager fp32, contiguous NCHW pictures, transposed convolutions throughout, one Python step per time step with the
embedding's projection and the prior's head inside, plain Adam. It draws its noise in the order in which `VMIL` does, so
that from one seed both compute the same (`equality.py`). Equations: `training/vmil.py: learn`; shape letters as in
`world_model/rssm.py`, with N = T · B starts of dreams of H steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vmil.config.schema import Config
from vmil.data.transition import Batch

Losses = dict[str, Tensor]


def mlp(*sizes: int) -> nn.Sequential:
    """Linear maps with ELU between them."""
    layers = [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o), nn.ELU())]
    return nn.Sequential(*layers[:-1])


def normal(stats: Tensor, min_std: float) -> tuple[Tensor, Tensor]:
    """Mean and scale of a Gaussian latent."""
    mean, raw = stats.chunk(2, -1)
    return mean, F.softplus(raw) + min_std


class Reference(nn.Module):
    """The paper's method at the configured sizes: what the schema's defaults choose, and nothing else."""

    def __init__(self, config: Config, action: int) -> None:
        super().__init__()
        self.config, self.action_size = config, action
        m, d, b = config.world_model, config.discriminator, config.behaviour
        depth, feat = m.depth, m.stoch + m.deter
        encoder = [nn.Conv2d(i, o, 4, 2) for i, o in pairwise((3, depth, 2 * depth, 4 * depth, 8 * depth))]
        sizes = ((32 * depth, 4 * depth, 5), (4 * depth, 2 * depth, 5), (2 * depth, depth, 6), (depth, 3, 6))
        decoder = [nn.ConvTranspose2d(i, o, kernel, 2) for i, o, kernel in sizes]
        self.model = nn.ModuleDict(
            {
                "encoder": nn.Sequential(*(layer for conv in encoder for layer in (conv, nn.ELU()))),
                "inputs": nn.Sequential(nn.Linear(m.stoch + action, m.hidden), nn.ELU()),
                "cell": nn.GRUCell(m.hidden, m.deter),
                "prior": mlp(m.deter, m.hidden, 2 * m.stoch),
                "posterior": mlp(m.deter + 32 * depth, m.hidden, 2 * m.stoch),
                "project": nn.Linear(feat, 32 * depth),
                "decoder": nn.Sequential(*[layer for conv in decoder for layer in (conv, nn.ELU())][:-1]),
            }
        )
        self.discriminator = mlp(2 * feat + action, *[d.units] * d.layers, 1)
        self.actor = mlp(feat, *[b.actor_units] * b.actor_layers, 2 * action)
        self.critic = mlp(feat, *[b.critic_units] * b.critic_layers, 1)

    def make_optimizers(self) -> None:
        """Called once the weights are in place, on their final device."""
        m, d, b = self.config.world_model, self.config.discriminator, self.config.behaviour
        behaviour = [(self.actor.parameters(), b.actor_lr), (self.critic.parameters(), b.critic_lr)]
        groups = [{"params": list(params), "lr": lr} for params, lr in behaviour]
        self.optimizers = (
            torch.optim.Adam(self.model.parameters(), lr=m.lr, eps=m.eps),
            torch.optim.Adam(self.discriminator.parameters(), lr=d.lr, eps=d.eps),
            torch.optim.Adam(groups, eps=b.eps),
        )

    def update(self, batch: Batch) -> Losses:
        """The four steps on a batch (T, B, …); losses and gradient norms under the names of our metrics."""
        feat, losses = self._fit_model(batch)  # (T, B, F), detached
        dream, action, entropy = self._dream(feat.flatten(0, 1))
        losses |= self._fit_discriminator(
            feat[:, : batch.num_experts], batch.action[:, : batch.num_experts], dream, action
        )
        losses |= self._fit_behaviour(dream, action, entropy)
        return {name: loss.detach() for name, loss in losses.items()}

    def _fit_model(self, batch: Batch) -> tuple[Tensor, Losses]:
        c, model = self.config.world_model, self.model
        image = (batch.image.flatten(0, 1).float() / 255.0 - 0.5).permute(0, 3, 1, 2).contiguous()  # (N, 3, 64, 64)
        embedding = model["encoder"](image).permute(0, 2, 3, 1).flatten(1).unflatten(0, batch.is_first.shape)
        noise = torch.randn(*batch.is_first.shape, c.stoch, device=image.device)
        before = torch.cat([torch.zeros_like(batch.action[:1]), batch.action[:-1]])
        deter, stoch = image.new_zeros(len(noise[0]), c.deter), torch.zeros_like(noise[0])
        feats, kls = [], []
        for t in range(len(noise)):
            keep = (~batch.is_first[t]).float()[:, None]
            deter = model["cell"](model["inputs"](torch.cat([stoch, before[t]], -1) * keep), deter * keep)
            prior_mean, prior_std = normal(model["prior"](deter), c.min_std)
            mean, std = normal(model["posterior"](torch.cat([deter, embedding[t]], -1)), c.min_std)
            stoch = mean + std * noise[t]
            feats.append(torch.cat([stoch, deter], -1))
            ratio = (std / prior_std) ** 2
            kls.append(0.5 * (ratio + ((mean - prior_mean) / prior_std) ** 2 - 1 - torch.log(ratio)).sum(-1))
        feat, kl = torch.stack(feats), torch.stack(kls).mean()  # (T, B, F), ()
        picture = model["decoder"](model["project"](feat.flatten(0, 1))[:, :, None, None])
        reconstruction = 0.5 * ((picture - image) ** 2).sum() / len(image)
        loss = reconstruction + c.kl_scale * kl.clamp(min=c.free_nats)
        norms = self._descend(0, c.clip, model=(loss, model))
        return feat.detach(), norms | {"model/loss": loss, "model/reconstruction": reconstruction, "model/kl": kl}

    def _dream(self, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, F) → z_0 … z_H (H+1, N, F), actions (H, N, A) and −log π (H, N)."""
        c, b, model = self.config.world_model, self.config.behaviour, self.model
        action_noise = torch.randn(b.horizon, len(start), self.action_size, device=start.device)
        noise = torch.randn(b.horizon, len(start), c.stoch, device=start.device)
        stoch, deter = start.split([c.stoch, c.deter], -1)
        feats, actions, entropies = [start], [], []
        for t in range(b.horizon):
            shown = feats[-1].detach() if b.detach_actor_input else feats[-1]
            mean, raw_std = self.actor(shown).chunk(2, -1)
            mean = b.mean_scale * torch.tanh(mean / b.mean_scale)
            std = F.softplus(raw_std + math.log(math.expm1(b.init_std))) + b.min_std
            raw = mean + std * action_noise[t]
            log_normal = -0.5 * action_noise[t] ** 2 - torch.log(std) - 0.5 * math.log(2 * math.pi)
            log_slope = 2 * (math.log(2) - raw - F.softplus(-2 * raw))
            actions.append(torch.tanh(raw))
            entropies.append((log_slope - log_normal).sum(-1))
            deter = model["cell"](model["inputs"](torch.cat([stoch, actions[-1]], -1)), deter)
            mean, std = normal(model["prior"](deter), c.min_std)
            stoch = mean + std * noise[t]
            feats.append(torch.cat([stoch, deter], -1))
        return torch.stack(feats), torch.stack(actions), torch.stack(entropies)

    def _fit_discriminator(self, feat: Tensor, shown: Tensor, dream: Tensor, action: Tensor) -> Losses:
        c = self.config.discriminator
        expert = torch.cat([feat[:-1], shown[:-1], feat[1:]], -1).flatten(0, 1)
        policy = torch.cat([dream[:-1], action, dream[1:]], -1).detach().flatten(0, 1)
        expert = expert + c.noise_std * torch.randn_like(expert)
        policy = policy + c.noise_std * torch.randn_like(policy)
        said = self.discriminator(expert)[..., 0], self.discriminator(policy)[..., 0]
        entropy = 0.5 * (F.softplus(-said[0]).mean() + F.softplus(said[1]).mean())
        rows = torch.randint(len(policy), (len(expert),), device=expert.device)
        share = torch.rand(len(expert), 1, device=expert.device)
        mixed = (share * expert + (1 - share) * policy[rows]).requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(mixed).sum(), mixed, create_graph=True)
        norm = ((slope**2).sum(-1) + 1e-12).sqrt()
        penalty = ((norm - c.penalty_target) ** 2).mean()
        norms = self._descend(1, c.clip, disc=(entropy + c.penalty_scale * penalty, self.discriminator))
        return norms | {"disc/loss": entropy, "disc/penalty": penalty}

    def _fit_behaviour(self, dream: Tensor, action: Tensor, entropy: Tensor) -> Losses:
        c = self.config.behaviour
        reward = torch.sigmoid(self.discriminator(torch.cat([dream[:-1], action, dream[1:]], -1))[..., 0])
        value = self.critic(dream)[..., 0]
        returns, following = list[Tensor](), value[-1]
        for t in reversed(range(len(reward))):
            bootstrap = (1 - c.lam) * value[t + 1] + c.lam * following
            following = c.reward_scale * reward[t] + c.discount * bootstrap
            returns.insert(0, following)
        gain = torch.stack(returns)  # (H, N)
        weight = (c.discount ** torch.arange(len(gain), device=gain.device))[:, None]
        actor = -(weight * (gain + c.entropy * entropy)).mean()
        error = self.critic(dream[:-1].detach())[..., 0] - gain.detach()
        critic = 0.5 * (weight * error**2).mean()
        norms = self._descend(2, c.clip, actor=(actor, self.actor), critic=(critic, self.critic))
        return norms | {"actor/loss": actor, "critic/loss": critic, "actor/entropy": entropy.mean()}

    def _descend(self, optimizer: int, clip: float, **parts: tuple[Tensor, nn.Module]) -> Losses:
        """One step down each loss in its own part's weights; the norms of their gradients before clipping."""
        chosen, norms = self.optimizers[optimizer], {}
        chosen.zero_grad()
        for name, (loss, module) in parts.items():
            weights = list(module.parameters())
            loss.backward(inputs=weights)
            norms[f"{name}/grad_norm"] = _clip(weights, clip)
        chosen.step()
        return norms


def _clip(weights: Iterable[Tensor], clip: float) -> Tensor:
    """Scales gradients down to a total norm of `clip`."""
    return nn.utils.clip_grad_norm_(weights, clip)
