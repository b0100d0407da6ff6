"""The recurrent state-space model (Hafner et al. 2019, "Learning latent dynamics for planning from pixels").

Shape letters: T time, B batch, A action, E embedding, D `deter`, S `stoch`, F `feat` = S + D.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vmil.config.options import Activation, Norm
from vmil.nets.distributions import Latent
from vmil.nets.loops import LoopedLinear
from vmil.nets.mlp import LayerNormGRUCell, dense, in_rows

Index = int | slice | Tensor | tuple[int | slice | Tensor, ...]


class State(NamedTuple):
    """z_t, in parts: any leading shape, then the size named."""

    deter: Tensor  # (…, D) the recurrent state h
    stoch: Tensor  # (…, S) the sample s
    stats: Tensor  # (…, latent.stats_size) of the distribution that s was drawn from

    @property
    def feat(self) -> Tensor:
        """What every head reads: [s, h], (…, F)."""
        return torch.cat([self.stoch, self.deter], -1)

    def detach(self) -> State:
        """The same values, detached."""
        return State(*(part.detach() for part in self))

    def flat(self) -> State:
        """With one leading axis for (T, B), (N, ·)."""
        return State(*(part.flatten(0, 1) for part in self))

    def at(self, index: Index) -> State:
        """The same index into the leading axes of every part."""
        return State(self.deter[index], self.stoch[index], self.stats[index])


class RSSM(nn.Module):
    """p(z_{t+1} | z_t, a_t) and q(z_{t+1} | x_{t+1}, z_t, a_t), which share the deterministic path."""

    def __init__(
        self, latent: Latent, embedding: int, action: int, deter: int, hidden: int, act: Activation, norm: Norm
    ) -> None:
        super().__init__()
        self.latent = latent
        self.deter_size = deter
        self.feat_size = deter + latent.size
        self.inputs = dense(latent.size + action, hidden, act, norm)
        self.cell: nn.Module = nn.GRUCell(hidden, deter) if norm == "none" else LayerNormGRUCell(hidden, deter)
        self.prior_head = nn.Sequential(dense(deter, hidden, act, norm), nn.Linear(hidden, latent.stats_size))
        # W [h, e] = W_h h + W_e e: the second term needs no recurrence and is computed for a whole sequence at once.
        self.from_embedding = nn.Linear(embedding, hidden, bias=False)
        layers = list(dense(deter, hidden, act, norm))
        self.from_deter = layers[0]
        self.posterior_head = nn.Sequential(*layers[1:], nn.Linear(hidden, latent.stats_size))

    def initial(self, batch: int, like: Tensor) -> State:
        """The state before anything was seen: zeros, (B, …), on the device and of the dtype of `like`."""
        return State(
            like.new_zeros(batch, self.deter_size),
            like.new_zeros(batch, self.latent.size),
            like.new_zeros(batch, self.latent.stats_size),
        )

    def advance(self, previous: State, action: Tensor) -> Tensor:
        """h_{t+1} from z_t (B, …) and a_t (B, A): (B, D)."""
        deter: Tensor = self.cell(self.inputs(torch.cat([previous.stoch, action], -1)), previous.deter)
        return deter

    def img_step(self, previous: State, action: Tensor, noise: Tensor) -> State:
        """Dreams one step: z' ~ p(· | z, a), (B, …)."""
        deter = self.advance(previous, action)
        stats = self.prior_head(deter)
        return State(deter, self.latent.sample(stats, noise), stats)

    def obs_step(self, previous: State, action: Tensor, embedding: Tensor, is_first: Tensor, noise: Tensor) -> State:
        """Filters one step: z' ~ q(· | x', z, a); `action` (B, A) led to the observation behind `embedding` (B, E).

        Where `is_first` (B,) the past is forgotten: state and action are zeroed.
        """
        keep = (~is_first).to(embedding.dtype)[:, None]
        kept = State(previous.deter * keep, previous.stoch * keep, previous.stats)
        deter = self.advance(kept, action * keep)
        stats = self.posterior_head(self.from_deter(deter) + self.from_embedding(embedding))
        return State(deter, self.latent.sample(stats, noise), stats)

    def observe(
        self, embedding: Tensor, action: Tensor, is_first: Tensor, noise: Tensor | None = None
    ) -> tuple[State, Tensor]:
        """Filters a sequence: equal to T × `obs_step`, with everything that needs no recurrence done once for all t.

        embedding (T, B, E), action (T, B, A) that led to each observation, is_first (T, B), noise (T, B, ·) →
        posterior states (T, B, …) and the priors' stats (T, B, stats_size).
        """
        length, batch = embedding.shape[:2]
        projected = self.from_embedding(embedding)
        noise = self.latent.noise(length, batch, like=projected) if noise is None else noise
        keep = (~is_first).to(projected.dtype)[..., None]  # (T, B, 1)
        action = action * keep
        state = self.initial(batch, projected)
        states = []
        filter_step = _Unrolled(self, action, projected)
        for t in range(length):
            previous = State(state.deter * keep[t], state.stoch * keep[t], state.stats)
            deter, stats = filter_step(previous)
            state = State(deter, self.latent.sample(stats, noise[t]), stats)
            states.append(state)
        posterior = State(*(torch.stack(parts) for parts in zip(*states, strict=True)))
        return posterior, in_rows(self.prior_head, posterior.deter)

    def imagine(self, start: State, action: Tensor, noise: Tensor | None = None) -> State:
        """Dreams along given actions (T, B, A) from `start` (B, …): prior states (T, B, …)."""
        noise = self.latent.noise(*action.shape[:2], like=action) if noise is None else noise
        state, states = start, []
        for t in range(action.shape[0]):
            state = self.img_step(state, action[t], noise[t])
            states.append(state)
        return State(*(torch.stack(parts) for parts in zip(*states, strict=True)))


class _Unrolled:
    """The filter's steps over a whole sequence, what needs no recurrence being done beforehand for all of them."""

    def __init__(self, rssm: RSSM, action: Tensor, projected: Tensor) -> None:
        """action (T, B, A) and projected embeddings (T, B, hidden), of the steps in order."""
        length, batch = action.shape[:2]

        def biased(layer: nn.Linear) -> Tensor:
            bias = projected.new_zeros(layer.out_features) if layer.bias is None else layer.bias
            return bias.expand(length, batch, -1)

        self.cell = rssm.cell
        self.after_inputs, self.after_deter = rssm.inputs[1:], rssm.posterior_head[:-1]
        first, middle, last = (cast(nn.Linear, m) for m in (rssm.inputs[0], rssm.from_deter, rssm.posterior_head[-1]))
        of_stoch, of_action = first.weight[:, : rssm.latent.size], first.weight[:, rssm.latent.size :]
        self.inputs = LoopedLinear(of_stoch, F.linear(action, of_action, first.bias))
        self.deter = LoopedLinear(middle.weight, projected + biased(middle))
        self.head = LoopedLinear(last.weight, biased(last))
        if isinstance(self.cell, LayerNormGRUCell):
            self.gates = LoopedLinear(self.cell.gates.weight, biased(self.cell.gates))

    def __call__(self, previous: State) -> tuple[Tensor, Tensor]:
        """The next step: h (B, D) and the posterior's stats (B, ·)."""
        inputs = self.after_inputs(self.inputs(previous.stoch))
        if isinstance(self.cell, LayerNormGRUCell):
            deter = self.cell.mix(self.gates(torch.cat([inputs, previous.deter], -1)), previous.deter)
        else:
            deter = self.cell(inputs, previous.deter)
        return deter, self.head(self.after_deter(self.deter(deter)))
