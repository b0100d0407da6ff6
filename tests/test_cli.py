"""Commands: who is called with what, exit codes, one sentence on stderr."""

import errno
import sys
from pathlib import Path

import pytest
import yaml

import vmil
from vmil import cli
from vmil.algorithms import make_learner
from vmil.commands import results
from vmil.config.load import load_config, save_config
from vmil.config.schema_cli import DemosOptions
from vmil.errors import StoppedError, UserError
from vmil.experts import commands
from vmil.experts.card import Recipe


class Recorder:
    """Stands in for a module that is slow to import, and remembers its calls."""

    def __init__(self, **answers):
        self.calls = []
        for name, answer in answers.items():
            setattr(self, name, self._function(name, answer))

    def _function(self, name, answer):
        def call(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call


@pytest.fixture
def fake_run(monkeypatch):
    """`vmil.training.run` and `trained` without torch."""
    fake = Recorder(train=None, resume=None, evaluate_run=None)
    import vmil.training

    monkeypatch.setitem(sys.modules, "vmil.training.run", fake)
    monkeypatch.setitem(sys.modules, "vmil.training.trained", fake)
    monkeypatch.setattr(vmil.training, "run", fake, raising=False)
    monkeypatch.setattr("vmil.envs.rendering.choose_backend", lambda: "egl")  # else it draws a picture first
    return fake


@pytest.fixture
def saved_run(tmp_path):
    directory = tmp_path / "runs" / "mine"
    directory.mkdir(parents=True)
    save_config(load_config(["env=walker"]), directory / "config.yaml")
    return directory


def test_train_gets_the_resolved_configuration(fake_run):
    assert cli.main(["train", "env=cheetah", "algo=vmil", "seed=3", "world_model.deter=256"]) == 0
    [(name, (config, factory), _)] = fake_run.calls
    assert (name, factory) == ("train", make_learner)
    assert (config.env.name, config.algo, config.seed, config.world_model.deter) == ("cheetah", "vmil", 3, 256)


def test_resume_finds_the_run_and_passes_what_else_is_set(fake_run, saved_run):
    assert cli.main(["resume", "run=mine", f"root={saved_run.parent}", "training.frames=90000"]) == 0
    assert fake_run.calls == [("resume", (saved_run, make_learner, ["training.frames=90000"]), {})]


def test_resume_refuses_a_wrong_key_before_anything_is_loaded(fake_run, saved_run, capsys):
    assert cli.main(["resume", f"root={saved_run.parent}", "training.frame=90000"]) == 2
    assert capsys.readouterr().err == "vmil: unknown key 'training.frame'; did you mean 'training.frames'?\n"
    assert fake_run.calls == []


def test_evaluate_films_beside_the_run_unless_told_otherwise(fake_run, saved_run, tmp_path):
    assert cli.main(["evaluate", f"run={saved_run}", "episodes=3"]) == 0
    assert cli.main(["evaluate", f"run={saved_run}", f"video={tmp_path}/walk.mp4"]) == 0
    assert fake_run.calls == [
        ("evaluate_run", (saved_run, make_learner, 3, saved_run / "videos" / "evaluation.mp4"), {}),
        ("evaluate_run", (saved_run, make_learner, 10, tmp_path / "walk.mp4"), {}),
    ]


def test_evaluate_plays_as_many_episodes_as_the_task_asks_for(fake_run, saved_run):
    save_config(load_config(["env=sawyer"]), saved_run / "config.yaml")
    assert cli.main(["evaluate", f"run={saved_run}"]) == 0
    assert fake_run.calls[0][1][2] == 20


def test_a_trained_policy_is_evaluated_without_a_run_and_filmed_where_one_is(fake_run, saved_run, monkeypatch):
    fake = Recorder(evaluate_pretrained=None)
    import vmil.training

    monkeypatch.setitem(sys.modules, "vmil.training.pretrained", fake)
    monkeypatch.setattr(vmil.training, "pretrained", fake, raising=False)
    (saved_run / "policy.safetensors").touch()
    monkeypatch.chdir(saved_run.parent)
    assert cli.main(["evaluate", "pretrained=mine"]) == 0
    assert fake.calls == [("evaluate_pretrained", (Path("mine"), make_learner, 10, Path("mine-evaluation.mp4")), {})]


def test_expert_takes_every_knob_of_sac(monkeypatch, tmp_path, capsys):
    fake = Recorder(train_expert=951.0)
    monkeypatch.setitem(sys.modules, "vmil.experts.sac", fake)
    assert cli.main(["expert", "env=dmc:cartpole-swingup", "seed=2", "frames=5000", f"root={tmp_path}"]) == 0
    [(_, (config, env, out, seed, resume), _)] = fake.calls
    assert (config.frames, config.batch_size) == (5000, 256)
    assert (env, out, seed, resume) == ("dmc:cartpole-swingup", tmp_path / "expert-dmc-cartpole-swingup-s2", 2, True)
    assert "951.0" in capsys.readouterr().out


def test_demos_prefers_the_expert_trained_here(monkeypatch, tmp_path):
    fake = Recorder(record_demos=[])
    monkeypatch.setitem(sys.modules, "vmil.experts.record", fake)
    opened = []
    monkeypatch.setattr(commands, "make_expert", lambda env, path: opened.append((env, path)) or Recorder(close=None))
    monkeypatch.setattr("vmil.envs.rendering.choose_backend", lambda: "egl")
    trained = tmp_path / "expert-walker-s0" / "actor.safetensors"
    trained.parent.mkdir()
    trained.touch()
    assert cli.main(["demos", "env=walker", "action_noise=0.2", f"root={tmp_path}"]) == 0
    assert opened == [("walker", trained)]
    [(_, (_, env, out, recipe), _)] = fake.calls
    assert (env.name, out, recipe) == ("walker", tmp_path / "demos-walker-s0", Recipe(10, 0, None, 0.2))


def test_demos_without_an_expert_says_how_to_get_one(tmp_path, capsys):
    assert cli.main(["demos", "env=dmc:cartpole-swingup", f"root={tmp_path}"]) == 2
    assert "`make expert ENV=dmc:cartpole-swingup` trains one" in capsys.readouterr().err


def test_ui_listens_on_this_machine_only(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(results.os, "execve", lambda *call: started.append(call))
    (tmp_path / "mlflow.db").touch()
    cli.main(["ui", f"root={tmp_path}", "port=5005"])
    [(path, arguments, environment)] = started
    assert path == arguments[0] == sys.executable
    assert arguments[1:4] == ["-m", "mlflow", "ui"]
    assert arguments[4:] == ["--host", "127.0.0.1", "--port", "5005"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path}/mlflow.db"


def test_ui_keeps_a_databases_password_off_the_command_line(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(results.os, "execve", lambda *call: started.append(call))
    cli.main(["ui", f"root={tmp_path}", "uri=postgresql://vmil:secret@db/runs"])
    [(_, arguments, environment)] = started
    assert not any("secret" in argument for argument in arguments)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "postgresql://vmil:secret@db/runs"


def test_ui_listens_elsewhere_only_when_told_so(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(results.os, "execve", lambda path, arguments, _: started.append(arguments))
    (tmp_path / "mlflow.db").touch()
    cli.main(["ui", f"root={tmp_path}", "host=0.0.0.0"])
    assert started[0][started[0].index("--host") + 1] == "0.0.0.0"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ui", "port=70000"], "port=70000 is outside"),
        (["ui", "uri=http://tracker:5000"], "open http://tracker:5000"),
        (["ui", "root=nowhere"], "no run is tracked in"),
        (["trian"], "unknown command 'trian' (known: train, "),
        (["train", "--env", "walker"], "'--env' is not of the form key=value: write env=walker"),
        (["train", "seed=1", "--env=walker"], "'--env=walker' is not of the form key=value: write env=walker"),
        (
            ["export-demos", "--action-noise", "-1"],
            "'--action-noise' is not of the form key=value: write action_noise=-1",
        ),
        (["resume", "RUN=mine"], "unknown key 'RUN'; did you mean 'run'?"),
        (["help", "trian"], "unknown command 'trian'"),
        (["train", "--fast"], "unrecognized arguments: --fast (see `vmil --help`)"),
        (["evaluate", "episodes=0"], "episodes=0 is outside [1, inf)"),
        (["evaluate", "episods=1"], "unknown key 'episods'; did you mean 'episodes'?"),
        (["evaluate", "run=mine", "pretrained=walker"], "run=mine and pretrained=walker are two things to evaluate"),
        (["demos", "count=none"], "count=none is not an integer"),
        (["expert", "fraems=1"], "unknown key 'fraems'; did you mean 'frames'?"),
        (["expert", "env=counting"], "env counting has no expert"),
        (["expert", "env=walker", "learning_rate=-1"], "learning_rate=-1.0 is outside (0, inf)"),
        (["expert", "env=sawyer", "frames=1000"], "frames= has no meaning for sawyer"),
        (["expert", "env=sawyer", "eval_episodes=0"], "eval_episodes=0 is outside"),
        (["expert", "env=baoding", "frames=1000"], "unknown key 'frames'"),
        (["expert", "env=baoding", "eval_episodes=0"], "eval_episodes=0 is outside"),
        (["expert", "env=baoding", "samples=0"], "samples=0 is outside [1, inf)"),
        (["expert", "env=baoding", "beta=1.5"], "beta=1.5 is outside [0, 1]"),
        (["expert", "env=baoding", "dynamics=learnt"], "did you mean 'learned'?"),
        (["demos", "env=baoding", "actor=x"], "actor= has no meaning for baoding"),
        (["demos", "env=sawyer", "actor=x"], "actor= has no meaning for sawyer"),
        (["doctor", "please=1"], "doctor takes no settings"),
    ],
)
def test_misuse_is_one_sentence_and_exit_code_2(arguments, sentence, capsys):
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("vmil: ")
    assert sentence in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (UserError("demo_03.npz is truncated"), 2, "vmil: demo_03.npz is truncated\n"),
        (
            OSError(errno.ENOSPC, "No space left", "x.pt"),
            2,
            "vmil: no space left on the disk for 'x.pt': free some, then resume\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/out"),
            2,
            "vmil: '/out' cannot be used: permission denied\n",
        ),
        (StoppedError("stopped; `make resume RUN=x` goes on"), 143, "vmil: stopped; `make resume RUN=x` goes on\n"),
        (KeyboardInterrupt(), 130, "vmil: interrupted\n"),
    ],
)
def test_what_goes_wrong_later_is_one_sentence_too(fake_run, raised, code, message, capsys):
    fake_run.train = fake_run._function("train", raised)
    assert cli.main(["train"]) == code
    assert capsys.readouterr().err == message


def test_a_programming_error_keeps_its_traceback(fake_run):
    fake_run.train = fake_run._function("train", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["train"])


def test_config_prints_yaml_that_holds_every_key(capsys):
    assert cli.main(["config", "env=cheetah", "seed=5"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["env"]["name"], printed["seed"]) == ("cheetah", 5)
    assert set(printed) == set(vars(load_config()))


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in cli.COMMANDS)


def test_the_shipped_expert_is_found_without_training_one(tmp_path, monkeypatch):
    monkeypatch.setattr(vmil, "__file__", str(tmp_path / "__init__.py"))
    shipped = tmp_path / "assets" / "walker" / "actor.safetensors"
    shipped.parent.mkdir(parents=True)
    shipped.touch()
    assert commands._known_expert(DemosOptions(root=str(tmp_path / "runs")), "sac") == shipped
    assert Path(tmp_path / "runs").exists() is False
