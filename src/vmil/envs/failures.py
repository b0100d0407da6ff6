"""What goes wrong in an environment of somebody's own, told in one sentence that says where."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vmil.errors import EnvError, NonFiniteError, UserError, first_line


@contextmanager
def telling(where: Callable[[], str]) -> Iterator[None]:
    """Inside, exceptions that are none of vmil's become an EnvError: where, what, in which line of which file."""
    try:
        yield
    except (UserError, NonFiniteError, EnvError):
        raise
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(line.filename).name}, line {line.lineno}"
        raise EnvError(f"{where()}: {type(error).__name__}: {first_line(error)} ({place})") from error
