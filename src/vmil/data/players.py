"""What plays an episode in a worker: a policy with its orders, and TorchRL's collector around it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

import torch
from tensordict import NonTensorData, TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.collectors import Collector

from vmil.data.collect import EpisodeActor, one_thread
from vmil.envs.episodes import EpisodicEnv, seed_from
from vmil.errors import EnvError, NonFiniteError


class Player(TensorDictModuleBase):
    """A portable policy together with its orders, which travel as its weights do.

    orders: (2,) int64, the number of the first worker's episode, and whether actions are uniform instead of the
    policy's. seed: with an episode's number it determines what is random in its actions, whoever plays it.
    """

    orders: Tensor

    def __init__(self, policy: nn.Module, seed: int, proprio: bool) -> None:
        super().__init__()
        self.in_keys, self.out_keys = ["image"] + (["proprio"] if proprio else []), ["action"]
        self.policy, self.seed = policy, seed
        self.register_buffer("orders", torch.zeros(2, dtype=torch.int64))
        self._actor: EpisodeActor | None = None

    def open(self, env: EpisodicEnv, worker: int) -> EpisodeActor:
        """Begins this worker's episode."""
        episode = int(self.orders[0]) + worker
        self._actor = EpisodeActor(env, episode)
        torch.manual_seed(seed_from(self.seed, episode))
        return self._actor

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The action for what is seen, (H, W, 3) uint8 and perhaps (P,)."""
        assert self._actor is not None
        proprio = tensordict["proprio"] if "proprio" in self.in_keys else None
        action = self._actor.act(None if bool(self.orders[1]) else self.policy, tensordict["image"], proprio)
        return tensordict.set("action", action)


@dataclass(frozen=True)
class Report:
    """A worker's report on the episode that it played.

    failure: a non-finite (NaN or inf) number in it, and where; evidence: what it was found in, by name. trace: of an
    exception of the environment's own, which `failure` then tells.
    """

    scores: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # by `time/<stage>`
    failure: str = ""
    trace: str = ""
    evidence: dict[str, Tensor] = field(default_factory=dict)


class EpisodeWorker(Collector):
    """TorchRL's collector inside a worker; each rollout is the episode that the player's orders say."""

    env: EpisodicEnv
    policy: Player

    def obey(self, state: dict[str, Tensor]) -> None:
        """Takes new weights and orders where they do not come through shared memory."""
        self.policy.load_state_dict(state)

    def rollout(self) -> TensorDictBase:
        """Steps (steps,) of the episode, with a "report" that is the same for all; of a failed one that alone."""
        actor = self.policy.open(self.env, self.worker_idx)
        try:
            with one_thread():
                rollout = super().rollout()
        except (NonFiniteError, EnvError) as error:
            return self._failed(error)
        return _with_report(rollout, Report(actor.scores(), actor.seconds()))

    def _failed(self, error: NonFiniteError | EnvError) -> TensorDictBase:
        steps = self.frames_per_batch  # TorchRL puts the workers' rollouts side by side, and counts their frames
        counted = TensorDict({"traj_ids": torch.zeros(steps, dtype=torch.int64)}, [steps])
        if isinstance(error, EnvError):
            report = Report(failure=str(error), trace="".join(traceback.format_exception(error)))
        else:
            found = error.evidence.items()
            evidence = {name: torch.as_tensor(value).detach().cpu().clone() for name, value in found}
            report = Report(failure=str(error), evidence=evidence)
        return _with_report(TensorDict({"collector": counted}, [steps]), report)


def _with_report(rollout: TensorDictBase, report: Report) -> TensorDictBase:
    return rollout.set("report", NonTensorData(report, batch_size=rollout.batch_size))
