"""Trained policies without their runs: the weights that act, as safetensors, beside the configuration they fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

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
IMPORTED = "imported"  # in the file's metadata, JSON
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


def save_policy(
    policy: LearnerPolicy, path: Path, expert_return: float | None, imported: Mapping[str, Any] | None = None
) -> int:
    """Writes the weights that the policy acts with, and how its demonstrations were imported; gives the file's bytes.

    Raises:
        UserError: they are more than a shipped policy may have.
    """
    known = {} if expert_return is None else {EXPERT_RETURN: repr(expert_return)}
    known |= {IMPORTED: json.dumps(imported)} if imported else {}
    content = save({name: weight.cpu().contiguous() for name, weight in _weights(policy).items()}, known or None)
    if len(content) > MAX_BYTES:
        raise UserError(
            f"the policy's weights take {len(content) / 1e6:.1f} MB, and a shipped one may have {MAX_BYTES / 1e6:.0f}: "
            "train one of smaller networks"
        )
    path.write_bytes(content)
    return len(content)


def load_policy(directory: Path, config: Config, make_learner: LearnerFactory) -> tuple[LearnerPolicy, float | None]:
    """The policy that `save_policy` wrote, ready to act, and the mean return of the demonstrations, if known.

    It checks what it is given, see `CheckedPolicy`.

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
    return CheckedPolicy(policy, info.image_size, info.proprio_size), expert


def read_imported(directory: Path) -> dict[str, Any]:
    """How the demonstrations of the policy in `directory` were imported, by option; empty if that is not known.

    Raises:
        UserError: the policy is missing or damaged.
    """
    path = directory / POLICY_FILE
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {}).get(IMPORTED, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"the policy '{path}' is missing, damaged, or no policy of vmil") from error
    return dict(content)


class CheckedPolicy:
    """A policy that refuses what it was not trained on, which its networks might take without a word.

    image_size: pixels, square; proprio_size: numbers of the vector observation, 0: none.
    """

    def __init__(self, policy: LearnerPolicy, image_size: int, proprio_size: int) -> None:
        self._policy, self._image_size, self._proprio_size = policy, image_size, proprio_size
        self._count = 0  # environments it acts in

    def __call__(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        """As `Policy`; UserError if types or shapes are others, or it is to go on where it has not begun."""
        size, count = self._image_size, len(image) if isinstance(image, Tensor) and image.ndim else 0
        _check("image", image, torch.uint8, (count, size, size, 3))
        if self._proprio_size:
            _check("proprio", proprio, torch.float32, (count, self._proprio_size))
        elif proprio is not None:
            raise UserError("proprio must be None: the policy was trained without a vector observation")
        _check("is_first", is_first, torch.bool, (count,))
        if count != self._count and not bool(is_first.all()):
            raise UserError(
                f"is_first must be true in all {count} rows at the first call, and where there are more or fewer rows "
                f"than before (now {self._count})"
            )
        self._count = count
        return self._policy(image, proprio, is_first)

    def networks(self) -> dict[str, nn.Module]:
        """As `LearnerPolicy`."""
        return self._policy.networks()

    def portable(self) -> nn.Module:
        """As `LearnerPolicy`; unchecked."""
        return self._policy.portable()


def _check(name: str, given: object, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """UserError unless it is such a tensor; the first number of the shape is that of environments, N."""
    if isinstance(given, Tensor) and given.dtype == dtype and given.shape == shape and shape[0] > 0:
        return
    found = f"{given.dtype} of shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
    number = shape[0] if name != "image" and shape[0] else "N"
    expected = ", ".join(map(str, (number, *shape[1:]))) + "," * (len(shape) == 1)
    raise UserError(f"{name} must be a tensor, {dtype} of shape ({expected}), and is {found}")


def _weights(policy: LearnerPolicy) -> dict[str, Tensor]:
    """Every parameter and buffer of its networks, without history, as `<network>.<name>`."""
    return {
        f"{part}.{name}": weight.detach()
        for part, network in policy.networks().items()
        for name, weight in network.state_dict().items()
    }
