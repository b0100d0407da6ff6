"""The notebooks: running them from top to bottom, and what their cells call to show a figure."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from vmil.analysis.results import MLFLOW, SOURCE_VARIABLE, checkout_dir
from vmil.analysis.stored import usual_store
from vmil.errors import UserError
from vmil.system.paths import given_path

CELL_SECONDS = 600


def show(figure: Figure | None, what: str) -> None:
    """Shows a figure in a notebook as PNG, or says that it is not measured yet."""
    if figure is None:
        print(f"{what}: not measured yet.")
        return
    from IPython.display import Image, display

    png = io.BytesIO()
    figure.savefig(png, format="png")
    display(Image(data=png.getvalue()))  # type: ignore[no-untyped-call]


def show_pictures(paths: Sequence[Path | None], what: str) -> None:
    """Shows PNG files in a notebook, or says that there is none yet."""
    known = [path for path in paths if path is not None]
    if not known:
        print(f"{what}: not measured yet.")
        return
    from IPython.display import Image, display

    for path in known:
        print(f"{path.parent.name}, {path.stem}")
        display(Image(data=path.read_bytes()))  # type: ignore[no-untyped-call]


def show_film(film: bytes | None, what: str, width: int = 384) -> None:
    """Shows a GIF in a notebook, enlarged to so many pixels, or says that there is none yet."""
    if film is None:
        print(f"{what}: not measured yet.")
        return
    from IPython.display import Image, display

    print(what)
    display(Image(data=film, format="gif", width=width))  # type: ignore[no-untyped-call]


def show_lines(lines: Sequence[str], what: str) -> None:
    """Prints a table, or says that nothing of it is measured yet."""
    print("\n".join(lines) if lines else f"{what}: not measured yet.")


def execute_all(path: str | None = None, source: str | None = None) -> Iterator[Path]:
    """Runs notebooks in place, one after the other; yields each when it is done.

    Raises:
        UserError: there are none, a cell raised, or nbclient is not installed.
    """
    where = Path(path) if path else checkout_dir() / "notebooks"
    found = sorted(where.glob("*.ipynb")) if where.is_dir() else [where]
    if not found or not all(each.is_file() for each in found):
        raise UserError(f"'{where}' is no notebook, and no directory of notebooks")
    for each in found:
        execute(each, source)
        yield each


def from_here(source: str) -> str:
    """A source of results as a kernel finds it, whose working directory is its notebook's and not this process's."""
    if source == MLFLOW:
        return usual_store()
    return source if "://" in source else str(given_path("source", source).resolve())


def execute(path: Path, source: str | None = None, out: Path | None = None) -> Path:
    """Runs one notebook in a kernel of this Python and writes it with its output, in place or to `out`."""
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ModuleNotFoundError as error:
        raise UserError(f"running notebooks needs {error.name}: `pip install -e .[notebooks]`") from error
    notebook = nbformat.read(path, as_version=4)
    chosen = source or os.environ.get(SOURCE_VARIABLE)
    environment = {**os.environ, **({SOURCE_VARIABLE: from_here(chosen)} if chosen else {})}
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=40"],  # no warnings of the kernel about itself
        record_timing=False,  # else every run changes every cell
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise UserError(f"{path.name} does not run: {error.ename}: {error.evalue}") from error
    notebook.metadata.pop(
        "language_info", None
    )  # names the Python that ran it, and would change from machine to machine
    target = out or path
    target.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return target
