"""What the fixture `make_model` is: beside it, since `conftest` may be another directory's."""

from __future__ import annotations

from collections.abc import Callable

from vmil.world_model.model import WorldModel

MakeModel = Callable[..., WorldModel]
