"""Every knob of a run: its type, unit, default and source.

`conf/*.yaml` and the command line override these defaults; `load.py` refuses anything that is not here.
Sources: [VMIL] Rafailov et al. 2021; [V-MAIL] its successor's released DeepMind Control settings; [D1] [D2] [D3]
Dreamer, DreamerV2, DreamerV3; [B] Blondé et al. 2020, "Lipschitzness is all you need"; [own] measured by us.
A *frame* is one control step of the simulator; an *agent step* is `env.action_repeat` frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from vmil.config.options import Activation, LatentKind, NoiseSchedule, Norm, Normalise, Penalty, PolicyKind, RewardMap
from vmil.config.ranges import Count, Natural, NotNegative, Positive, PositiveShare, Range, Seed, Share, ShareBelowOne
from vmil.config.schema_baselines import BCConfig, DACConfig, DrQConfig, LearnerKind, PixelsConfig

RenderProfile = Literal["standard", "fast"]
Bootstrap = Literal["value", "none"]
TrackingKind = Literal["mlflow", "csv", "none"]
Precision = Literal["auto", "fp32", "bf16"]
When = Literal["auto", "never", "always"]
Device = Literal["auto", "cpu", "cuda"]
ReplayPlace = Literal["auto", "host", "device"]
CollectorBackend = Literal["direct", "process", "ray"]
ScoreName = Literal["return", "success"]


@dataclass
class EnvConfig:
    """The agent's environment and how its camera sees it."""

    name: str = "walker"  # walker | cheetah | sawyer | baoding | dot | dmc:<domain>-<task> | counting
    image_size: Annotated[int, Range(16, 512, "[]")] = 64  # pixels, square; VMIL needs 64, DrQ was published with 84
    camera: str = "0"  # index or name of the model's camera, or a view that the task's module defines
    action_repeat: Count = 2  # frames per agent step, repeated below the renderer [D1]
    episode_frames: Annotated[int, Range(2)] = 1000  # frames per episode; a multiple of action_repeat
    render_profile: RenderProfile = "fast"  # standard: dm_control's own; fast: no shadows, reflections, multisampling
    proprio: bool = False  # add the task's own vector observation to the image
    score: ScoreName = "return"  # what the task is judged by: its return, or the share of episodes that succeed


@dataclass
class DemosConfig:
    """Which demonstrations the run imitates."""

    path: str | None = None  # a directory of demo_*.npz; null: the ones shipped for env.name
    count: Count | None = None  # how many of them, drawn by `seed`, fewer being a subset of more; null: all
    cache_dir: str = "~/.cache/vmil"  # rendered demonstrations, keyed by their digest and the render settings


@dataclass
class WorldModelConfig:
    """The variational latent dynamics model."""

    latent: LatentKind = "gaussian"  # kind of stochastic state [D1]/[D2]
    deter: Count = 200  # units of the recurrent state h [D1]
    stoch: Count = 30  # latent variables s [D1]
    classes: Annotated[int, Range(2)] = 32  # classes of each, categorical only [D2]
    hidden: Count = 200  # width of the RSSM's MLPs [D1]
    min_std: Positive = 0.1  # floor of a Gaussian latent's scale [D1]
    unimix: ShareBelowOne = 0.01  # uniform share of a categorical latent [D3]
    depth: Count = 32  # channels of the first encoder layer [D1]
    activation: Activation = "elu"  # [D1]
    norm: Norm = "none"  # layer: LayerNorm before every activation of the RSSM [D3]
    proprio_hidden: Count = 128  # width of the vector encoder and decoder [own]
    free_nats: NotNegative = 3.0  # nats, the KL below which nothing is gained, after averaging [D1]
    kl_balance: Share = 0.0  # share of the KL's gradient that moves the prior [D2: 0.8]; 0: the KL as it stands [D1]
    kl_scale: NotNegative = 1.0  # [D1]
    reconstruct_fraction: PositiveShare = 1.0  # share of the frames to reconstruct, drawn anew each update [own]
    lr: Positive = 6e-4  # [V-MAIL]
    eps: Positive = 1e-5  # Adam [V-MAIL]
    clip: Positive = 100.0  # gradient norm [V-MAIL]


@dataclass
class DiscriminatorConfig:
    """Who is the expert, in latent space."""

    units: Count = 400  # [V-MAIL]
    layers: Natural = 2  # [V-MAIL]
    activation: Activation = "elu"
    next_state: bool = True  # read (z, a, z') rather than (z, a) [VMIL]
    spectral_norm: bool = False  # [own]
    action_scale: Positive = 1.0  # multiplies actions in D's input, next to hundreds of latent numbers [own]
    prior_next_state: bool = False  # draw replayed z' from the prior, as in a dream's first step (not its later ones)
    penalty: Penalty = "input"  # gradient penalty on D's input [VMIL], by its weights [V-MAIL's code], or none
    penalty_scale: NotNegative = 1.0  # λ; [B] takes 10
    penalty_target: NotNegative = 0.0  # gradient norm aimed at: 1 is WGAN-GP's, 0 is R1's
    noise: NoiseSchedule = "constant"  # Gaussian noise on D's input [VMIL]
    noise_std: NotNegative = 0.1  # at the start
    noise_anneal_frames: Natural = 200_000  # frames until annealed noise is zero; 0: training.frames
    reward: RewardMap = "probability"  # r(D) [VMIL]
    updates: Count = 1  # discriminator steps per training step
    dream_negatives: bool = True  # D's negatives include dreams [VMIL]
    replay_negatives: bool = False  # and posteriors of the agent's replay, which count by number beside dreams [own]
    lr: Positive = 8e-5  # [V-MAIL]
    eps: Positive = 1e-5
    clip: Positive = 100.0


@dataclass
class BehaviourConfig:
    """Actor and critic, trained on-policy inside the model."""

    horizon: Count = 15  # H, agent steps [D1]
    detach_actor_input: bool = False  # stop gradients at the states that the actor sees in a dream, as [D1] does
    discount: Share = 0.99  # γ [D1]
    lam: Share = 0.95  # λ of the return [D1]
    bootstrap: Bootstrap = "value"  # value: λ-return ends in V(z_H); none: Monte-Carlo sum of rewards [V-MAIL's code]
    dream_starts: Natural = 0  # posterior states dreamt from, drawn without replacement; 0: all of them [D1]
    reward_scale: Positive = 1.0  # multiplies rewards; 1 − γ gives values the size of one reward, easier to learn
    normalise: Normalise = "none"  # divide returns by the running 5–95 % range of returns [D3] or of advantages [own]
    entropy: NotNegative = 0.0  # weight of the bonus: −log π, or clipped_normal's entropy before the clip
    actor_units: Count = 400  # [V-MAIL]
    actor_layers: Natural = 4  # [V-MAIL]
    critic_units: Count = 400  # [V-MAIL]
    critic_layers: Natural = 3  # [V-MAIL]
    activation: Activation = "elu"
    norm: Norm = "none"
    policy: PolicyKind = "tanh_normal"  # tanh of a normal [D1], or a normal around tanh(mean), clipped [D3]
    mean_scale: Positive = 5.0  # tanh_normal: mean before the tanh is scale · tanh(raw / scale) [D1]
    init_std: Annotated[float, Range(0, 100, "(]")] = 5.0  # of an untrained actor; of tanh_normal, less min_std [D1]
    min_std: Positive = 1e-4  # [D1]
    max_std: Positive = 1.0  # clipped_normal: ceiling [D3]; tanh_normal has none
    actor_lr: Positive = 8e-5  # [V-MAIL]
    actor_beta: ShareBelowOne = 0.9  # Adam's memory of the actor's gradient; 0: none, not to overshoot D [own]
    critic_lr: Positive = 8e-5  # [V-MAIL]
    eps: Positive = 1e-5
    clip: Positive = 100.0
    slow_critic: Share = 0.0  # per-update share by which the target critic follows; 0: no target critic [D1]; 0.02 [D3]
    actor_average: Share = 0.0  # per-update share by which the evaluated actor follows the trained one; 0: the same one
    cloning: NotNegative = 0.0  # weight of −log π(expert action | expert posterior) at the start [own]
    cloning_decay_updates: NotNegative = 8_000.0  # e-folding time of that weight, in updates; 0: constant
    cloning_floor: Share = 0.0  # share of the weight that is kept for good
    exploration_std: NotNegative = 0.3  # Gaussian noise on collected actions [D1]
    exploration_correlation: ShareBelowOne = 0.0  # of that noise from one agent step to the next; 0: white
    exploration_spread: Share = 0.0  # each episode's own scale of it is uniform in (1 ± spread) times the above
    exploration_frames: Natural = 0  # frames for which that noise lasts; 0: for good [D1]


@dataclass
class TrainingConfig:
    """Budget, pace and batches; everything a person reads counts frames."""

    frames: Count = 60_000  # environment frames in all
    frames_per_epoch: Count = 1000  # frames of a round, all collectors together; a multiple of a collected episode
    episode_frames: Natural = 0  # frames after which a collected episode is cut off; 0: as long as a scored one
    whole_episodes_from: Natural = 0  # after so many frames collected episodes are played whole; 0: never [own]
    updates_per_epoch: Count = 120  # training steps of a round, spread over its episodes
    seed_frames: Natural = 0  # frames of uniformly random actions before the policy acts; no updates are made for them
    pretrain_updates: Natural = 1200  # training steps on the demonstrations alone
    batch_size: Count = 16  # sequences
    batch_length: Count = 50  # agent steps per sequence; baselines: one transition, set by pixels.frame_stack
    demo_fraction: Share = 0.25  # share of the sequences that are the expert's, at least one
    opening_share: Share = 0.0  # share of the sequences that begin where their episode does; the rest anywhere [own]
    replay_frames: Count = 500_000  # capacity; the oldest episodes go first
    eval_every_frames: Count = 10_000
    eval_episodes: Count = 5
    background_evaluation: When = "auto"  # beside training, in a process of its own; auto: if a core is free for it
    eval_at_start: bool = False  # evaluate after pre-training, before any frame is collected
    checkpoint_every_frames: Count = 5_000  # what a kill can cost at most
    image_log_every_frames: Count = 10_000  # videos and open-loop predictions
    skip_nonfinite: bool = False  # true: skip an update whose gradient is not finite; false: stop and say which loss


@dataclass
class CollectorConfig:
    """Who plays the episodes; which ones are played does not depend on it."""

    backend: CollectorBackend = "direct"  # in the learner's process, in processes beside it, or on a Ray cluster
    workers: Count = 1  # episodes played at once, each by a worker of its own; direct: 1
    overlap: bool = False  # play the next episodes, by the policy from before, while learning from the last; not direct
    timeout: Positive = 600.0  # seconds for workers to start, or to play or score an episode; then they count as hung


@dataclass
class ComputeConfig:
    """What the machine provides."""

    device: Device = "auto"
    devices: Count = 1  # per node, learning together, one process each; training.batch_size is per device
    nodes: Count = 1  # machines that learn together
    precision: Precision = "auto"  # of convolutions and, on CPUs, dreams; auto: bf16 where native; fp32 on CUDA is TF32
    graphs: When = "never"  # record updates as CUDA graphs; auto: on CUDA. Not yet tested on a GPU
    replay: ReplayPlace = "auto"  # where replay and demonstrations lie; auto: on a GPU with three times that free
    threads: Natural = 0  # torch CPU threads; 0: one per core this process may use, shared among its devices


@dataclass
class TrackingConfig:
    """Where numbers and pictures go."""

    kind: TrackingKind = "mlflow"
    uri: str | None = None  # null: $MLFLOW_TRACKING_URI, else SQLite under run.root
    experiment: str = "vmil"
    parent: str | None = None  # id of the MLflow run under which this one is shown; null: it stands alone
    system_metrics: bool = False


@dataclass
class RunConfig:
    """Where the run lives."""

    root: str = "runs"
    name: str | None = None  # directory under root; null: <env>-<algo>-s<seed>-<date>-<time>
    variant: str = "base"  # what figures call this run's deviation from its preset; base: none


@dataclass
class DebugConfig:
    """Switches that turn the experiment into something else; off by default and logged loudly."""

    use_ground_truth_reward: bool = False  # the environment's reward takes the place of D, or of SQIL's labels
    deterministic: bool = False  # torch.use_deterministic_algorithms


@dataclass
class Config:
    """A whole run."""

    env: EnvConfig = field(default_factory=EnvConfig)
    demos: DemosConfig = field(default_factory=DemosConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    pixels: PixelsConfig = field(default_factory=PixelsConfig)
    drq: DrQConfig = field(default_factory=DrQConfig)
    dac: DACConfig = field(default_factory=DACConfig)
    bc: BCConfig = field(default_factory=BCConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    collector: CollectorConfig = field(default_factory=CollectorConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    run: RunConfig = field(default_factory=RunConfig)
    debug: DebugConfig = field(default_factory=DebugConfig)
    algo: str = "vmil_plus"  # the preset this run started from: a name in conf/algo
    learner: LearnerKind = "vmil"  # the method whose knobs that preset sets
    seed: Seed = 0
