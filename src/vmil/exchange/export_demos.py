"""`make export-demos`: a run's demonstrations as Dreamer's .npz episodes or as a Minari dataset, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from vmil.config.runs import file_name
from vmil.config.schema import Config
from vmil.config.schema_cli import ExportOptions
from vmil.data.demo_files import find_demos
from vmil.data.demos import check_matches, observations
from vmil.data.formats.dreamer import write_dreamer
from vmil.data.formats.minari import write_minari
from vmil.data.formats.source import SourceEpisode
from vmil.data.recording import read_recording
from vmil.envs.factory import env_info
from vmil.exchange.import_demos import new_directory
from vmil.system.paths import user_path


def export_demos(options: ExportOptions, config: Config, say: Callable[[str], object] = print) -> Path:
    """Writes the demonstrations that `config` chooses, drawn as `config.env` says; returns the directory.

    UserError: there are none, they are not this task's, the directory holds something already, or the format cannot say
    what they hold.
    """
    env = file_name(config.env.name)
    out = user_path("out", options.out or f"{options.root}/exported-{env}-{options.format}")
    found = find_demos(config.env.name, config.demos, config.seed)
    with new_directory(out) as part, tqdm(found, "exporting", leave=False, disable=None) as episodes:
        if options.format == "npz":
            count = 0
            for count, episode in enumerate(_episodes(episodes, config), start=1):
                write_dreamer(part / f"episode_{count - 1:04d}-{len(episode.image)}.npz", episode)
        elif options.format == "minari":
            about = [
                f"{key}={getattr(config.env, key)}" for key in ("name", "action_repeat", "camera", "render_profile")
            ]
            count = write_minari(part, _episodes(episodes, config), f"vmil/{env}/expert-v0", about)
        else:
            raise ValueError(options.format)
    say(f"{count} demonstrations in {out}, format {options.format}")
    return out


def _episodes(paths: Iterable[Path], config: Config) -> Iterator[SourceEpisode]:
    info, cache = env_info(config.env), user_path("demos.cache_dir", config.demos.cache_dir)
    for path in paths:
        recording = read_recording(path)
        check_matches(recording, config.env, info.action_size)
        seen = observations(recording, config.env, info.proprio_size, cache)
        drawn = seen.get("proprio")
        yield SourceEpisode(
            name=path.name,
            image=seen["image"].numpy(),
            action=recording.action,
            reward=recording.reward,
            proprio=drawn.numpy() if drawn is not None else recording.proprio,  # whether or not this run looks at it
            physics=recording.physics,
        )
