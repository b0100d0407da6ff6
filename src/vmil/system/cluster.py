"""Joining a Ray cluster. Ray is imported only when a setting asks for it."""

from __future__ import annotations

import importlib
import os
from typing import Any

from vmil.errors import UserError, first_line


def join_cluster(wanted: str, instead: str, ray: Any = None) -> tuple[Any, bool]:
    """Ray, connected to the cluster of $RAY_ADDRESS, else to one started on this machine; and whether this call did so.

    wanted: the setting that asks for it; instead: one that does without. What Ray starts ends with the thread that
    called this.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    if ray is None:
        try:
            ray = importlib.import_module("ray")
        except ModuleNotFoundError as error:
            raise UserError(f"{wanted} needs Ray: `pip install -e .[ray]`, or take {instead}") from error
    if ray.is_initialized():
        return ray, False
    address = os.environ.get("RAY_ADDRESS")
    # A local cluster listens on this machine only: whoever can reach Ray's ports can run anything.
    here = {} if address else {"_node_ip_address": "127.0.0.1", "dashboard_host": "127.0.0.1"}
    try:
        ray.init(address=address, log_to_driver=False, **here)
    except (Exception, SystemExit) as error:  # the latter after two minutes, if nobody answers
        where = f"reach the cluster of RAY_ADDRESS={address}" if address else "start a cluster on this machine"
        said = "" if isinstance(error, SystemExit) else f" ({first_line(error)})"
        raise UserError(f"{wanted}: Ray cannot {where}{said}; {instead} does without") from error
    return ray, True
