"""Paths in settings, which no shell has expanded."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmil import cli
from vmil.errors import UserError
from vmil.system.paths import given_path, user_path


def test_a_tilde_means_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert given_path("out", "~/figures") == Path("/home/someone/figures")
    assert given_path("out", "figures") == Path("figures")
    assert user_path("out", "figures") == Path.cwd() / "figures"


def test_no_such_user_is_a_sentence() -> None:
    with pytest.raises(UserError, match="out=~nobody-of-that-name/x leads nowhere: "):
        given_path("out", "~nobody-of-that-name/x")


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (["figures"], "out"),
        (["evaluate", "run=latest"], "root"),
        (["publish", "run=latest"], "root"),
        (["train", "env=counting", "compute=debug"], "run.root"),
        (["train", "env=counting", "compute=debug", "run.root=nowhere"], "demos.path"),
        (["bench", "env=counting", "compute=debug"], "out"),
        (["experiment", "name=figure3", "env=walker"], "root"),
        (["demos", "env=cheetah"], "actor"),
    ],
)
def test_every_command_says_so(
    command: list[str], key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command, f"{key}=~nobody-of-that-name/x"]) == 2
    assert f"vmil: {key}=~nobody-of-that-name/x leads nowhere" in capsys.readouterr().err
    assert not list(tmp_path.rglob("~*"))
