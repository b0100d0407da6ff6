"""Trained policies without their runs: the weights that act, as safetensors, beside the configuration they fit."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vmil.config.load import load_saved_config
from vmil.config.runs import CONFIG_FILE, POLICY_FILE
from vmil.config.schema import Config
from vmil.data.collect import LearnerPolicy
from vmil.envs.factory import env_info
from vmil.envs.rendering import prepare_rendering
from vmil.errors import UserError
from vmil.evaluation.scores import Score
from vmil.learner.device import choose_device, playable
from vmil.training.assembly import LearnerFactory, prepare_torch
from vmil.training.restore import check_architecture
from vmil.training.trained import play

MAX_BYTES = 10_000_000  # of one policy: it travels with the package
EXPERT_RETURN = "expert_return"  # in the file's metadata: a normalised score needs no demonstrations


def evaluate_pretrained(directory: Path, make_learner: LearnerFactory, episodes: int, video: Path | None) -> Score:
    """Plays `episodes` deterministic episodes with the policy in `directory`, prints the score, films the first.

    Raises:
        UserError: the policy cannot be read, or does not fit the configuration beside it.
    """
    config = playable(load_saved_config(directory / CONFIG_FILE))
    prepare_rendering(config.env)
    prepare_torch(config)
    policy, expert = load_policy(directory, config, make_learner)
    return play(f"{config.algo} on {config.env.name}", policy, config, expert, episodes, video)


def save_policy(policy: LearnerPolicy, path: Path, expert_return: float | None) -> int:
    """Writes the weights that the policy acts with; gives the file's bytes.

    Raises:
        UserError: they are more than a shipped policy may have.
    """
    known = None if expert_return is None else {EXPERT_RETURN: repr(expert_return)}
    content = save({name: weight.cpu().contiguous() for name, weight in _weights(policy).items()}, known)
    if len(content) > MAX_BYTES:
        raise UserError(
            f"the policy's weights take {len(content) / 1e6:.1f} MB, and a shipped one may have {MAX_BYTES / 1e6:.0f}: "
            "train one of smaller networks"
        )
    path.write_bytes(content)
    return len(content)


def load_policy(directory: Path, config: Config, make_learner: LearnerFactory) -> tuple[LearnerPolicy, float | None]:
    """The policy that `save_policy` wrote, ready to act, and the mean return of the demonstrations, if known.

    Raises:
        UserError: the file is missing, damaged, or of another architecture.
    """
    path, info = directory / POLICY_FILE, env_info(config.env)
    learner = make_learner(config, info.action_size, info.proprio_size).to(choose_device(config)).eval()
    policy = learner.evaluation_policy()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (a file)
        expert = float(metadata[EXPERT_RETURN]) if EXPERT_RETURN in metadata else None
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"the policy '{path}' is missing, damaged, or no policy of vmil") from error
    weights = _weights(policy)  # the learner's own storage: what is copied into it acts
    check_architecture(f"the policy '{path}'", stored, weights)
    for name, weight in weights.items():
        weight.copy_(stored[name])
    return policy, expert


def _weights(policy: LearnerPolicy) -> dict[str, Tensor]:
    """Every parameter and buffer of its networks, without history, as `<network>.<name>`."""
    return {
        f"{part}.{name}": weight.detach()
        for part, network in policy.networks().items()
        for name, weight in network.state_dict().items()
    }
