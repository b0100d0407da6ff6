"""Layers of configuration, in their order, and one sentence for whatever is wrong."""

import dataclasses
import subprocess
import sys

import pytest

from vmil.config import load, sources
from vmil.config.commands import with_config
from vmil.config.keys import flatten, leaves, nearest
from vmil.config.load import load_config, load_saved_config, save_config
from vmil.config.schema import Config
from vmil.config.schema_cli import ImportOptions
from vmil.config.sources import presets
from vmil.errors import UserError


@pytest.fixture
def own_conf(tmp_path, monkeypatch):
    """A conf directory of the test's own, with a preset for each layer."""
    for group in ("env", "algo", "compute"):
        (tmp_path / group).mkdir()
    (tmp_path / "default.yaml").write_text(
        "algo: a\nenv: {name: walker, camera: 1}\nseed: 1\nbehaviour: {horizon: 2}\n"
    )
    (tmp_path / "env" / "walker.yaml").write_text("env: {camera: 2}\nbehaviour: {horizon: 3}\n")
    (tmp_path / "algo" / "a.yaml").write_text("behaviour: {horizon: 4}\nworld_model: {deter: 4}\n")
    (tmp_path / "compute" / "cpu.yaml").write_text("world_model: {deter: 5, stoch: 5}\n")
    monkeypatch.setattr(sources, "conf_dir", lambda: tmp_path)
    monkeypatch.setattr(load, "cuda_present", lambda: False)
    return tmp_path


def test_later_layers_win(own_conf):
    config = load_config(["world_model.stoch=6"])
    assert config.seed == 1  # default.yaml
    assert config.env.camera == "2"  # env over default
    assert config.behaviour.horizon == 4  # algo over env over default
    assert config.world_model.deter == 5  # compute over algo
    assert config.world_model.stoch == 6  # command line over all
    assert config.discriminator == Config().discriminator  # the schema where nothing is said


def test_an_algorithm_may_have_settings_for_one_task(own_conf):
    (own_conf / "env" / "cheetah.yaml").write_text("env: {camera: 2}\n")
    (own_conf / "algo" / "a").mkdir()
    (own_conf / "algo" / "a" / "cheetah.yaml").write_text(
        "behaviour: {horizon: 9}\nworld_model: {deter: 9, hidden: 9}\n"
    )
    config = load_config(["env=cheetah"])
    assert config.behaviour.horizon == 9  # over the algorithm's own
    assert config.world_model.deter == 5  # compute over it
    assert config.world_model.hidden == 9
    assert load_config(["env=walker"]).behaviour.horizon == 4
    assert load_config(["env=cheetah"], preset=False).behaviour.horizon == 2
    assert sources.presets("algo") == ["a"]


def test_an_algorithm_may_begin_from_another_with_all_its_files(own_conf):
    (own_conf / "algo" / "a").mkdir()
    (own_conf / "algo" / "a" / "walker.yaml").write_text("behaviour: {horizon: 9, lam: 0.5}\n")
    (own_conf / "algo" / "b.yaml").write_text("base: a\nbehaviour: {horizon: 10}\n")
    (own_conf / "algo" / "b").mkdir()
    (own_conf / "algo" / "b" / "walker.yaml").write_text("behaviour: {discount: 0.5}\n")
    config = load_config(["algo=b"])
    assert (config.algo, config.behaviour.horizon, config.behaviour.lam, config.behaviour.discount) == (
        "b",
        10,
        0.5,
        0.5,
    )
    assert load_config(["algo=a"]).behaviour.horizon == 9


@pytest.mark.parametrize("base", ["b", "c", "../env/walker"])
def test_a_base_that_is_no_other_algorithm_is_named(own_conf, base):
    (own_conf / "algo" / "b.yaml").write_text(f"base: {base}\n")
    with pytest.raises(UserError, match=f"algo/b.yaml: base: {base} is not another algorithm"):
        load_config(["algo=b"])


@pytest.mark.parametrize("asked", ["env.action_repeat=4", "env.episode_frames=240", "env.image_size=84"])
def test_a_command_that_only_reads_the_task_is_not_held_to_the_rules_of_training(asked):
    """Their keys it does not take, so that nobody could obey."""
    arguments = ["env=walker", asked]
    with pytest.raises(UserError):
        load_config(arguments)
    _, config = with_config(ImportOptions, ["src=episodes", *arguments], ("env",))
    key, _, value = asked.partition("=")
    assert flatten(config)[key] == int(value)
    with pytest.raises(UserError, match=r"env\.episode_frames=1000 is not a multiple of env\.action_repeat=3"):
        with_config(ImportOptions, ["src=episodes", "env=walker", "env.action_repeat=3"], ("env",))


def test_a_yaml_with_a_wrong_key_is_named(own_conf):
    (own_conf / "algo" / "a.yaml").write_text("world_model: {detr: 3}\n")
    with pytest.raises(
        UserError, match=r"^algo/a\.yaml: unknown key 'world_model.detr'; did you mean 'world_model.deter'\?$"
    ):
        load_config()


def test_a_yaml_with_a_wrong_value_is_named(own_conf):
    (own_conf / "env" / "walker.yaml").write_text("env: {action_repeat: often}\n")
    with pytest.raises(UserError, match=r"^env/walker\.yaml: env.action_repeat=often is not an integer$"):
        load_config()


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2", "env: {camera: 1}\nenv: {camera: 2}"])
def test_a_file_that_is_no_mapping_is_named(own_conf, text):
    (own_conf / "algo" / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^algo/a\.yaml: "):
        load_config()


@pytest.mark.parametrize("env", presets("env"))
@pytest.mark.parametrize("algo", presets("algo"))
@pytest.mark.parametrize("compute", presets("compute"))
def test_every_preset_composes_with_every_other(env, algo, compute):
    config = load_config([f"env={env}", f"algo={algo}", f"compute={compute}"])
    assert (config.env.name, config.algo) == (env, algo)


def test_debug_sizes_win_over_every_algorithm():
    tiny = {algo: load_config([f"algo={algo}", "compute=debug"]) for algo in presets("algo")}
    for config in tiny.values():
        assert config.world_model.deter <= 32
        assert config.training.frames <= 1000


def test_any_task_of_dm_control_needs_no_preset():
    assert load_config(["env=dmc:cartpole-swingup"]).env.name == "dmc:cartpole-swingup"


def test_selectors_and_leaves_of_the_same_name():
    config = load_config(["env=cheetah", "env.camera=1", "tracking=csv", "tracking.experiment=mine", "compute=cpu"])
    assert (config.env.name, config.env.camera) == ("cheetah", "1")
    assert (config.tracking.kind, config.tracking.experiment) == ("csv", "mine")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "env=wlaker",
            "unknown env 'wlaker' (known: baoding, cheetah, counting, dot, sawyer, walker, dmc:<domain>-<task>); "
            "did you mean 'walker'?",
        ),
        ("env.name=wlaker", "did you mean 'walker'?"),
        ("env.name=sawyer", "env.name=sawyer would take walker's settings, not that task's own: write env=sawyer"),
        ("env=dmc:cartpole", "env 'dmc:cartpole' is not of the form dmc:<domain>-<task>, such as dmc:cartpole-swingup"),
        (
            "env=dmc:walker-wlak",
            "unknown env 'dmc:walker-wlak': dm_control has no such task; did you mean 'dmc:walker-walk'?",
        ),
        ("algo=vmil_pls", "did you mean 'vmil_plus'?"),
        ("compute=gpuu", "unknown compute 'gpuu' (known: auto, cpu, debug, gpu); did you mean 'gpu'?"),
        ("tracking=cvs", "tracking.kind=cvs is not one of mlflow, csv, none; did you mean 'csv'?"),
        ("world_model.detr=3", "unknown key 'world_model.detr'; did you mean 'world_model.deter'?"),
        ("deter=3", "unknown key 'deter'; did you mean 'world_model.deter'?"),
        ("ENV=walker", "unknown key 'ENV'; did you mean 'env'?"),
        ("sed=3", "unknown key 'sed'; did you mean 'seed'?"),
        ("xyzzy=3", "unknown key 'xyzzy'"),
        ("world_model=3", "'world_model' is a group of keys, such as 'world_model.latent': set one of them"),
        ("world_model.deter=abc", "world_model.deter=abc is not an integer"),
        ("world_model.deter=1.5", "world_model.deter=1.5 is not an integer"),
        ("world_model.deter=", "world_model.deter= has no value"),
        ("discriminator.reward=", "discriminator.reward= has no value"),
        ("world_model.deter=~", "world_model.deter=~ is not an integer"),
        ("world_model.deter=1.50", "world_model.deter=1.50 is not an integer"),
        ("training.frames=1e5", "training.frames=1e5 is not an integer: write 100000"),
        ("demos.count=1e1", "demos.count=1e1 is not an integer or null: write 10"),
        ("world_model.lr=fast", "world_model.lr=fast is not a number"),
        ("debug.deterministic=maybe", "debug.deterministic=maybe is not true or false"),
        ("demos.path=${nowhere}", "demos.path=${nowhere} is not a text or null"),
        ("discriminator.reward=logits", "did you mean 'logit'?"),
        ("walker", "'walker' is not of the form key=value"),
        ("=3", "'=3' is not of the form key=value"),
    ],
)
def test_what_is_wrong_gets_one_sentence(override, sentence):
    with pytest.raises(UserError) as caught:
        load_config([override])
    assert str(caught.value).endswith(sentence)
    assert "\n" not in str(caught.value)


def test_text_keeps_its_digits_and_null_is_null():
    config = load_config(["run.name=007", "demos.path=null", "world_model.lr=1e-3", "debug.deterministic=true"])
    assert (config.run.name, config.demos.path) == ("007", None)
    assert load_config(["demos.path=my #1 demos, &c: [x]"]).demos.path == "my #1 demos, &c: [x]"
    assert (config.world_model.lr, config.debug.deterministic) == (1e-3, True)


def test_a_saved_configuration_comes_back_equal(tmp_path):
    config = load_config(["env=cheetah", "algo=vmil", "seed=3", "world_model.lr=1e-4", "run.name=007"])
    save_config(config, tmp_path / "config.yaml")
    assert load_saved_config(tmp_path / "config.yaml") == config


def test_a_configuration_saved_before_there_was_a_key_has_its_default(tmp_path):
    path = tmp_path / "config.yaml"
    save_config(load_config(["compute.replay=host"]), path)
    assert load_saved_config(path).compute.replay == "host"
    path.write_text("".join(line for line in path.open() if line != "  replay: host\n"))
    assert load_saved_config(path).compute.replay == "auto"


def test_a_saved_configuration_takes_overrides_but_keeps_its_task(tmp_path):
    path = tmp_path / "config.yaml"
    save_config(load_config(["compute=gpu"]), path)
    moved = load_saved_config(path, ["compute=cpu", "training.frames=90000"])
    assert (moved.compute.device, moved.training.frames) == ("cpu", 90_000)
    for override in ("env=cheetah", "algo=vmil", "seed=5", "env.action_repeat=4", "learner=bc"):
        with pytest.raises(UserError, match="cannot change a run that exists"):
            load_saved_config(path, [override])
    assert load_saved_config(path, ["seed=0", "env.action_repeat=2"]) == load_saved_config(path)  # said again


def test_a_preset_changes_the_machine_of_a_saved_run_and_nothing_else(tmp_path):
    path = tmp_path / "config.yaml"
    save_config(load_config(["compute=gpu"]), path)
    with pytest.raises(UserError) as caught:
        load_saved_config(path, ["compute=debug"])
    assert str(caught.value) == (
        "compute=debug sets env.episode_frames=120, and the run that exists has 1000: "
        "take another preset, or single keys of compute.*"
    )
    tiny = load_config(["compute=debug", "env.episode_frames=60"])
    save_config(tiny, path)
    assert load_saved_config(path, ["compute=cpu"]).compute.precision == "auto"
    assert load_saved_config(path, ["compute=debug", "env.episode_frames=60"]) == tiny


def test_a_directory_without_a_configuration_is_no_run(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yaml").touch()  # as a power cut may leave it
    with pytest.raises(UserError, match="is empty, or not the configuration of a run"):
        load_saved_config(tmp_path / "empty" / "config.yaml")
    with pytest.raises(UserError, match="is not a run"):
        load_saved_config(tmp_path / "config.yaml")


def test_flatten_names_every_leaf():
    flat = flatten(Config())
    assert list(flat) == list(leaves(Config))
    assert flat["world_model.deter"] == Config().world_model.deter
    assert not any(dataclasses.is_dataclass(value) for value in flat.values())


def test_nearest_prefers_the_whole_word_and_stays_silent_when_nothing_is_near():
    assert nearest("b.horizn", ["a.horizon", "b.horizon"]) == "; did you mean 'b.horizon'?"
    assert nearest("zzz", ["a.horizon"]) == ""
    assert nearest("deter", ["world_model.deter", "other_model.deter"]) == "; did you mean 'world_model.deter'?"


def test_nearest_compares_in_lower_case():
    assert nearest("ENV", ["seed", "env.name", "env"]) == "; did you mean 'env'?"
    assert nearest("dmc:humanoid_cmu-run", ["dmc:humanoid_CMU-run"]) == "; did you mean 'dmc:humanoid_CMU-run'?"
    assert nearest("DETER", ["world_model.deter"]) == "; did you mean 'world_model.deter'?"


@pytest.mark.parametrize(("present", "device"), [(True, "cuda"), (False, "cpu")])
def test_compute_is_chosen_by_the_machine_unless_the_device_is_named(monkeypatch, present, device):
    monkeypatch.setattr(load, "cuda_present", lambda: present)
    assert load_config().compute.device == device
    assert load_config(["compute.device=cpu"]).compute.precision == "auto"
    assert load_config(["compute.device=cuda"]).compute.precision == "auto"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["experiment", "name=figur4"], "unknown experiment 'figur4'"),
        (["experiment", "name=figure4", "seed=1"], "seed is set by the experiment"),
        (["train", "demos.path=nothere"], "demos.path=nothere is not a directory"),
        (["import-demos"], "import-demos needs src="),
        (["figures", "source=nothere"], "'nothere' is not a directory of results"),
    ],
)
def test_torch_is_not_imported_to_answer_a_wrong_name_or_path(arguments, sentence, tmp_path):
    code = (
        "import sys\nfrom vmil.cli import main\ncode = main(sys.argv[1:])\n"
        "heavy = {'torch', 'matplotlib', 'mlflow', 'mujoco'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr


def test_nothing_heavy_is_imported_to_refuse_a_key():
    code = (
        "import sys\nfrom vmil.cli import main\ncode = main(['train', 'world_model.detr=3'])\n"
        "heavy = {'torch', 'lightning', 'mlflow', 'mujoco', 'dm_control', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "vmil: unknown key 'world_model.detr'; did you mean 'world_model.deter'?\n"
