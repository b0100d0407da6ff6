"""Open-loop predictions: the committed picture of a run, as a labelled figure and as a film.

Such a picture holds six rows of square images over time: truth, prediction and error of a demonstration, then the same
of the agent's own replay (`vmil.tracking.pictures.open_loop_panel`).
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from einops import rearrange
from matplotlib.figure import Figure
from PIL import Image

from vmil.analysis.gallery import OPEN_LOOP
from vmil.analysis.results import Results
from vmil.tracking.pictures import Pixels

WHOSE = ("demonstration", "agent")
ROWS = ("truth", "prediction", "error")
FRAME_MS = 300  # slower than it happened: one is to compare
DPI = 72  # a pixel of the picture is about one of the figure: few bytes, nothing blurred


def open_loop_picture(results: Results, env: str) -> Path | None:
    """The open-loop prediction of the longest run on a task, as it was published."""
    found = results.longest_with(OPEN_LOOP, env)
    return found[1][-1] if found else None


def open_loop_figure(results: Results, env: str) -> Figure | None:
    """The same with its rows named; None: no run on that task has one."""
    path = open_loop_picture(results, env)
    if path is None:
        return None
    picture = np.asarray(Image.open(path).convert("RGB"))
    height, width = picture.shape[:2]
    rows = [f"{whose}: {row}" for whose in WHOSE for row in ROWS]
    side = height / len(rows)
    figure = Figure(figsize=(width / DPI + 1.6, height / DPI + 0.6), layout="constrained", dpi=DPI)
    panel = figure.subplots()
    panel.imshow(picture, interpolation="nearest")
    panel.set_title(f"{env}, {path.parent.name}", fontsize=9)
    panel.set_yticks([side * (place + 0.5) for place in range(len(rows))], rows, fontsize=8)
    panel.set_xticks([])
    panel.set_xlabel("time →", fontsize=8)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    return figure


def open_loop_film(results: Results, env: str) -> bytes | None:
    """The same as an endless GIF: truth, prediction, error from left to right, the demonstration above the agent."""
    path = open_loop_picture(results, env)
    if path is None:
        return None
    frames = [Image.fromarray(frame) for frame in film_frames(np.asarray(Image.open(path).convert("RGB")))]
    film = io.BytesIO()
    frames[0].save(film, "GIF", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)
    return film.getvalue()


def film_frames(picture: Pixels) -> Pixels:
    """A picture (2·3·S, T·S, 3) cut into its moments (T, 2·S, 3·S, 3)."""
    side = picture.shape[0] // (len(WHOSE) * len(ROWS))
    return rearrange(
        picture, "(whose row h) (t w) c -> t (whose h) (row w) c", whose=len(WHOSE), row=len(ROWS), h=side, w=side
    )
