"""DrQ's losses by hand, and against TorchRL's SAC where they are the same."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded
from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss

from vmil.baselines.losses import actor_loss, critic_loss, soft_target, temperature_loss
from vmil.behaviour import actor as behaviour


def test_targets_are_averaged_over_views_and_end_where_the_task_does() -> None:
    value = torch.tensor([[[3.0, 9.0], [5.0, 9.0]], [[4.0, 9.0], [1.0, 9.0]]])  # (2, K, N)
    entropy = torch.tensor([[1.0, 1.0], [2.0, 1.0]])  # (K, N)
    ended = torch.tensor([False, True])
    target = soft_target(torch.tensor([1.0, 2.0]), ended, value, entropy, torch.tensor(0.5), 0.9)
    assert target.tolist() == pytest.approx([1 + 0.9 * ((3 + 0.5) + (1 + 1.0)) / 2, 2.0])


def test_both_critics_regress_the_target_on_every_view() -> None:
    value = torch.tensor([[[2.0], [3.0]], [[1.0], [0.0]]])  # (2, M, N)
    loss, metrics = critic_loss(value, torch.tensor([1.0]))
    assert loss.item() == pytest.approx((1 + 4) / 2 + (0 + 1) / 2)
    assert metrics["critic/value"].item() == 1.5


def test_the_actor_climbs_the_smaller_value_and_the_entropy() -> None:
    value, entropy = torch.tensor([[1.0, 4.0], [2.0, 3.0]]), torch.tensor([1.0, 2.0])
    loss, metrics = actor_loss(value, entropy, torch.tensor(0.1))
    assert loss.item() == pytest.approx(-((1 + 0.1) + (3 + 0.2)) / 2)
    assert metrics["actor/entropy"].item() == 1.5


@pytest.mark.parametrize(("entropy", "sign"), [([-1.0, -3.0], 1), ([-4.0, -4.0], -1)])
def test_the_temperature_falls_while_there_is_more_entropy_than_wanted(entropy: list[float], sign: int) -> None:
    log_alpha = torch.tensor(math.log(0.1), requires_grad=True)
    loss, _ = temperature_loss(log_alpha, torch.tensor(entropy), target_entropy=-3.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.1 * sign)
    assert log_alpha.grad is not None
    assert log_alpha.grad.item() == pytest.approx(0.1 * sign)


F, A, N = 5, 2, 7  # features, actions, transitions


class Heads(nn.Module):
    """A linear policy's mean and scale."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(F, 2 * A)

    def forward(self, feat: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.net(feat).chunk(2, -1)
        return mean, raw.exp()


class Value(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(F + A, 1)

    def forward(self, feat: Tensor, action: Tensor) -> Tensor:
        return self.net(torch.cat([feat, action], -1))


@pytest.mark.filterwarnings("ignore")
def test_with_one_view_they_are_torchrl_s_sac(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    heads, noise = Heads(), torch.randn(N, A)
    monkeypatch.setattr("torch.distributions.normal._standard_normal", lambda *args, **kwargs: noise)
    spec = Bounded(-1.0, 1.0, (A,))
    actor = ProbabilisticActor(
        TensorDictModule(heads, ["feat"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=spec,
        distribution_class=TanhNormal,
    )
    critic = ValueOperator(Value(), in_keys=["feat", "action"])
    sac = SACLoss(actor, critic, loss_function="l2", alpha_init=0.1, action_spec=spec, target_entropy=-float(A))
    sac.make_value_estimator(gamma=0.9)
    feat, following, reward = torch.randn(N, F), torch.randn(N, F), torch.randn(N)
    action, ended = torch.rand(N, A) * 2 - 1, torch.arange(N) == 3
    flags = {"done": ended[:, None], "terminated": ended[:, None]}
    ahead = TensorDict({"feat": following, "reward": reward[:, None], **flags}, [N])
    reference = sac(TensorDict({"feat": feat, "action": action, "next": ahead}, [N]))

    weights = sac.qvalue_network_params["module", "net"]

    def values(feat: Tensor, action: Tensor) -> Tensor:
        inputs = torch.cat([feat, action], -1)
        return torch.stack([(inputs @ weights["weight"][i].T + weights["bias"][i])[:, 0] for i in range(2)])

    def act(feat: Tensor) -> tuple[Tensor, Tensor]:
        return behaviour.TanhNormal(*heads(feat)).sample(noise)

    alpha = torch.tensor(0.1)
    next_action, entropy = act(following)
    target = soft_target(reward, ended, values(following, next_action)[:, None], entropy[None], alpha, 0.9).detach()
    torch.testing.assert_close(critic_loss(values(feat, action)[:, None], target)[0], reference["loss_qvalue"])
    chosen, entropy = act(feat)
    torch.testing.assert_close(actor_loss(values(feat, chosen), entropy, alpha)[0], reference["loss_actor"])
