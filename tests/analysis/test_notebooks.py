"""The notebooks run on what is committed, and hold its figures."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from vmil.analysis.notebooks import execute, execute_all, from_here
from vmil.analysis.results import checkout_dir
from vmil.errors import UserError

ROOT = checkout_dir()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_the_five_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        *("1_learning_curves", "2_data_regimes", "3_world_model", "4_discriminator", "5_ablations"),
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_has_its_output_is_small_and_names_nobody_s_disk(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert path.stat().st_size < 1_000_000
    outputs = [out for cell in cells for out in cell.outputs]
    told = json.dumps([[out.get("text"), out.get("data", {}).get("text/plain")] for out in outputs])
    assert not re.search(r"[\s\"'=]/\w+/\w+", told)  # an absolute path
    assert not any(out.output_type == "error" or out.get("name") == "stderr" for out in outputs)


def pictures(cells: list[Any]) -> list[Any]:
    """Those that a notebook's cells show."""
    return [out for cell in cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]


def test_every_notebook_runs_on_the_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one kernel, since a kernel's imports take longer than its figures; each notebook alone is `make notebooks`."""
    monkeypatch.delenv("VMIL_RESULTS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"), prepend=":")
    whole = nbformat.v4.new_notebook(metadata=nbformat.read(NOTEBOOKS[0], as_version=4).metadata)
    whole.cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    committed = copy.deepcopy(whole.cells)
    for index, cell in enumerate(whole.cells):
        cell["id"] = f"cell-{index}"
        if cell.cell_type == "code":
            cell["outputs"] = []
    nbformat.write(whole, tmp_path / "whole.ipynb")
    done = nbformat.read(execute(tmp_path / "whole.ipynb"), as_version=4)
    assert len(pictures(done.cells)) == len(pictures(committed)) > len(NOTEBOOKS)
    outputs = [out for cell in done.cells if cell.cell_type == "code" for out in cell.outputs]
    assert not any(out.get("name") == "stderr" for out in outputs)


def test_a_source_is_meant_from_here_though_a_kernel_stands_beside_its_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert from_here("mlflow") == f"sqlite:///{ROOT}/runs/mlflow.db"  # an open notebook's: there is no run here
    (tmp_path / "runs").mkdir()
    assert from_here("mlflow") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert from_here("mine") == str(tmp_path / "mine")
    assert from_here("http://lab:5000") == "http://lab:5000"


def test_a_cell_that_raises_stops_it_with_its_reason(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    with pytest.raises(UserError, match=r"broken.ipynb does not run: ZeroDivisionError: division by zero"):
        list(execute_all(str(tmp_path)))
    with pytest.raises(UserError, match="is no notebook"):
        list(execute_all(str(tmp_path / "none.ipynb")))
