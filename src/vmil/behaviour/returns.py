"""Returns of dreamt trajectories."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vmil.config.options import Normalise

LEAST_RANGE = 1e-3  # what returns are divided by, at the least


def lambda_return(reward: Tensor, value: Tensor, discount: float, lam: float) -> Tensor:
    """G_t = r_t + γ [(1 − λ) V(z_{t+1}) + λ G_{t+1}], G_H = V(z_H) (Sutton & Barto 2018, eq. 12.18).

    reward (H, …) of the transition t → t+1 and value (H+1, …) of z_0 … z_H → (H, …).
    """
    if len(value) != len(reward) + 1:
        raise ValueError(f"{len(reward)} rewards need {len(reward) + 1} values, not {len(value)}")
    one_step = reward + discount * (1 - lam) * value[1:]
    following, returns = value[-1], []
    for t in reversed(range(len(reward))):
        following = one_step[t] + discount * lam * following
        returns.append(following)
    return torch.stack(returns[::-1])


def discount_weights(horizon: int, discount: float, like: Tensor) -> Tensor:
    """γ^t for t = 0 … H−1, (H, 1)."""
    return (discount ** torch.arange(horizon, dtype=like.dtype, device=like.device))[:, None]


def _quantiles(values: Tensor, *levels: float) -> list[Tensor]:
    """Quantiles with linear interpolation, each (); unlike torch's it needs no tensor of levels."""
    ordered, last = values.flatten().sort().values, values.numel() - 1
    places = [level * last for level in levels]
    return [torch.lerp(ordered[int(place)], ordered[min(int(place) + 1, last)], place % 1.0) for place in places]


class ReturnRange(nn.Module):
    """A running 5–95 % range by which returns are divided (DreamerV3, eq. 7), without its floor of 1.

    DreamerV3 takes the range of the returns. Between an expert's states and a beginner's those differ by far more than
    any action can change, which drowns the actor's signal; the range of advantages G − V measures what actions do.
    Returns that end with the dream also differ by how many of its steps are left, which V(z) cannot know: with
    `behaviour.bootstrap=none` that accounts for most of the range.
    """

    range: Tensor
    initialised: Tensor

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("range", torch.ones(()))
        self.register_buffer("initialised", torch.zeros(()))

    @torch.no_grad()
    def update(self, kind: Normalise, returns: Tensor, value: Tensor) -> Tensor:
        """Takes in returns and the values that predicted them (same shape); returns the scale to divide by, ()."""
        if kind == "none":
            return returns.new_ones(())
        if kind == "returns":
            spread = returns.detach()
        elif kind == "advantages":
            spread = returns.detach() - value.detach()
        else:
            raise ValueError(f"unknown normalisation {kind!r}")
        low, high = _quantiles(spread, 0.05, 0.95)
        keep = self.decay * self.initialised  # the first batch sets the range
        sound = torch.isfinite(high - low)  # else `training.skip_nonfinite` leaves the step out: so does the range
        self.range.copy_(torch.where(sound, torch.lerp(high - low, self.range, keep), self.range))
        self.initialised.copy_(torch.where(sound, 1.0, self.initialised))
        return self.range.clamp(min=LEAST_RANGE)
