"""`make import-demos`: demonstrations from other software, converted, verified episode by episode, and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vmil.config.runs import file_name
from vmil.config.schema import Config, EnvConfig
from vmil.config.schema_cli import FormatName, ImportOptions
from vmil.data.demos import identity
from vmil.data.formats.checks import alignment_words, examine, suspicious_openings, without_bad_rewards
from vmil.data.formats.detect import detect, read_episodes
from vmil.data.formats.source import ReadOptions, SourceEpisode, Unreadable, alignment_of
from vmil.data.recording import CONVERSION, IMAGES, read_recording, write_recording
from vmil.envs.factory import EnvInfo, env_info
from vmil.errors import UserError
from vmil.exchange.picture_check import compare_pictures
from vmil.exchange.replay_alignment import Replayer
from vmil.system.files import whole_directory
from vmil.system.paths import user_path
from vmil.tracking.pictures import contact_sheet, write_png

SHEET = "contact_sheet.png"
SHEET_ROWS, SHEET_COLUMNS = 16, 8  # episodes, and moments of each
COMPARED = 3  # episodes whose pictures are compared with the run's own


@dataclass
class Import:
    """What has been read so far."""

    lines: list[tuple[str, str, str, str, str]] = field(default_factory=list)  # name, steps, return, range, verdict
    written: int = 0
    refused: int = 0
    replayed: bool = True  # the actions of each episode lead from state to state
    openings: list[np.ndarray] = field(default_factory=list)  # the first action of each episode
    shown: list[np.ndarray] = field(default_factory=list)  # (SHEET_COLUMNS, H, W, 3) of the first episodes
    compared: list[SourceEpisode] = field(default_factory=list)

    def keep(self, episode: SourceEpisode) -> None:
        """Counts an episode that was written, and remembers what the report shows of it."""
        self.written += 1
        self.openings.append(episode.action[0])
        if len(self.shown) < SHEET_ROWS:
            moments = np.linspace(0, len(episode.image) - 1, SHEET_COLUMNS).round().astype(int)
            self.shown.append(episode.image[moments])
        if len(self.compared) < COMPARED:
            self.compared.append(episode)


def import_demos(options: ImportOptions, config: Config, say: Callable[[str], object] = print) -> list[Path]:
    """Converts `options.src` to demonstrations of `config.env` and returns their paths, saying what was found.

    Either all of it is there at the end or nothing. UserError: the source cannot be read, an episode is refused (unless
    `options.skip_bad`), or the directory holds something already.
    """
    if options.src is None:
        raise UserError("import-demos needs src=<a file, a directory, or the id of a Minari dataset>")
    format, source = detect(options.src, options.format)
    given = user_path("src", options.src)
    name = f"imported-{file_name(config.env.name)}-{given.stem if given.is_file() else given.name}"
    out = user_path("out", options.out or f"{options.root}/{name}")
    with new_directory(out) as part:
        reading = read_options(options, config.env)
        episodes = read_episodes(format, source, reading)
        meta = {"source": f"{format}: {Path(options.src).name}", **_meta(config.env), **_conversion(format, reading)}
        done = _convert(episodes, config, meta, part, options.skip_bad)
        unsure = options.alignment != "led_to" and format != "npz"
        suspicion = suspicious_openings(done.openings, reading) if unsure else None
        notes = alignment_words(format, reading, done.replayed)
        _report(done, config, [*notes, *([f"WARNING: {suspicion}"] if suspicion else [])], say)
        if done.refused and not (options.skip_bad and done.written):
            hint = "" if options.skip_bad else ": skip_bad=true leaves them out"
            raise UserError(
                f"{done.refused} of {len(done.lines)} episodes of {options.src} are refused for the reasons above, "
                f"and nothing was written{hint}"
            )
        write_png(part / SHEET, contact_sheet(np.concatenate(done.shown), SHEET_COLUMNS))
    say(f"{done.written} demonstrations in {out}; look at {out / SHEET}; train on them with demos.path={out}")
    return sorted(out.glob("demo_*.npz"))


@contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """As `whole_directory`; UserError if `out` holds something already, or cannot be written."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is there already: choose another directory with out=")
        with whole_directory(out) as part:
            yield part
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error


def read_options(options: ImportOptions, env: EnvConfig) -> ReadOptions:
    """The reader's part of the command's options; UserError if a range is no list of numbers."""
    default = "proprio" if env.proprio else ""
    named = options.proprio if options.proprio is not None else default
    return ReadOptions(
        image_size=env.image_size,
        image=options.image,
        action=options.action,
        proprio=tuple(key.strip() for key in named.split(",") if key.strip()),
        alignment=options.alignment,
        resize=options.resize,
        action_low=_numbers("action_low", options.action_low),
        action_high=_numbers("action_high", options.action_high),
    )


def _numbers(key: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{key}={text} is not a number, nor several with commas between") from error
    if not np.isfinite(values).all():
        raise UserError(f"{key}={text} is not finite")
    return values


def _convert(
    episodes: Iterable[SourceEpisode | Unreadable], config: Config, meta: dict[str, Any], part: Path, skip_bad: bool
) -> Import:
    info, done = env_info(config.env), Import()
    bar = tqdm(episodes, "importing", leave=False, disable=None)
    with bar as watched, closing(Replayer(config.env)) as replayer:
        for episode in watched:
            if isinstance(episode, Unreadable):
                if not skip_bad:
                    raise episode.error
                done.lines.append((episode.name, "?", "?", "?", f"refused: {episode.error}"))
                done.refused += 1
                continue
            episode = without_bad_rewards(episode)
            if _examine(episode, config, info, replayer, done, skip_bad):
                path = part / f"demo_{done.written:04d}.npz"
                total = None if episode.reward is None else float(episode.reward.sum())
                _save(episode, {**meta, "return": total, "episode": episode.name}, path)
                done.keep(episode)
            else:
                done.refused += 1
    return done


def _examine(
    episode: SourceEpisode, config: Config, info: EnvInfo, replayer: Replayer, done: Import, skip_bad: bool
) -> bool:
    """Whether an episode can be used; adds its line to the table."""
    found = examine(episode, config, info, refuse_short=skip_bad)
    replayer.check(episode, found)
    low, high = (episode.action.min(), episode.action.max()) if episode.action.size else (np.nan, np.nan)
    total = "?" if episode.reward is None else f"{episode.reward.sum():.1f}"
    done.lines.append((episode.name, str(len(episode.action)), total, f"[{low:.2f}, {high:.2f}]", found.verdict))
    done.replayed &= found.replayed or bool(found.refused)
    return not found.refused


def _meta(env: EnvConfig) -> dict[str, Any]:
    """What the run that trains on them must agree with; domain and task are the task's own names."""
    settings = ("action_repeat", "image_size", "camera", "render_profile")
    return {"format": IMAGES, "env": env.name, **identity(env.name), **{key: getattr(env, key) for key in settings}}


def _conversion(format: FormatName, reading: ReadOptions) -> dict[str, Any]:
    """What was done to the source: with action_low and action_high, a policy's actions go back to its units."""
    done = alignment_of(format, reading), reading.resize, reading.action_low, reading.action_high, reading.proprio
    return dict(zip(CONVERSION, done, strict=True))


def _save(episode: SourceEpisode, meta: dict[str, Any], path: Path) -> None:
    write_recording(path, episode.arrays, meta)
    read_recording(path)  # what training would refuse is found out here


def _report(done: Import, config: Config, notes: Iterable[str], say: Callable[[str], object]) -> None:
    header = ("episode", "steps", "return", "actions", "verdict")
    widths = [max(len(row[column]) for row in [header, *done.lines]) for column in range(4)]
    for row in [header, *done.lines]:
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        say("  ".join([*cells, row[4]]))
    for sentence in notes:
        say(sentence)
    if done.compared:
        for sentence in compare_pictures(done.compared, config.env):
            say(sentence)
