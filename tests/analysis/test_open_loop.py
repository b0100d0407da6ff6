"""Published open-loop predictions as figure and film."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_results import publish

from vmil.analysis.open_loop import FRAME_MS, film_frames, open_loop_figure, open_loop_film
from vmil.analysis.results import Results, load_results
from vmil.tracking.pictures import Pixels, open_loop_panel, write_png

STEPS, SIDE = 5, 8


def sequences(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (STEPS, 2, SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    write_png(publish(tmp_path, "one") / "open_loop.png", open_loop_panel(sequences(0), sequences(1)))
    return load_results(str(tmp_path))


def test_a_film_shows_the_demonstration_above_the_agent_and_the_truth_left_of_the_prediction() -> None:
    truth, model = sequences(0), sequences(1)
    frames = film_frames(open_loop_panel(truth, model))
    assert frames.shape == (STEPS, 2 * SIDE, 3 * SIDE, 3)
    for whose in (0, 1):
        row = frames[:, whose * SIDE : (whose + 1) * SIDE]
        np.testing.assert_array_equal(row[:, :, :SIDE], truth[:, whose])
        np.testing.assert_array_equal(row[:, :, SIDE : 2 * SIDE], model[:, whose])


def test_a_film_is_an_endless_gif_of_every_moment(results: Results) -> None:
    data = open_loop_film(results, "walker")
    assert data is not None
    film = Image.open(io.BytesIO(data))
    assert (film.format, film.n_frames, film.size) == ("GIF", STEPS, (3 * SIDE, 2 * SIDE))
    assert (film.info["loop"], film.info["duration"]) == (0, FRAME_MS)


def test_the_figure_names_its_rows_from_the_top(results: Results) -> None:
    figure = open_loop_figure(results, "walker")
    assert figure is not None
    [panel] = figure.axes
    names = [text.get_text() for text in panel.get_yticklabels()]
    assert (names[0], names[3], names[-1]) == ("demonstration: truth", "agent: truth", "agent: error")
    assert list(panel.get_yticks()) == [SIDE * (row + 0.5) for row in range(6)]
    assert panel.yaxis_inverted()


def test_a_task_without_a_picture_has_neither(results: Results) -> None:
    assert open_loop_film(results, "cheetah") is None
    assert open_loop_figure(results, "cheetah") is None
