"""Every option there is, with its default, its meaning and its checks.

It is over 300 lines because every option stands here, and none anywhere else.

YAML files in conf/ override these defaults; `build.py` turns them into objects. Nothing else in
the library sees an option.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def check_precision(name: str, value: str) -> None:
    """Raises ValueError for what is no precision."""
    _one_of(name, value, ("auto", "fp32", "bf16"))


def _at_least(name: str, value: float | None, least: float) -> None:
    if value is not None and value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least:g}")


def _at_most(name: str, value: float, most: float) -> None:
    if value > most:
        raise ValueError(f"{name} is {value}; it must be at most {most:g}")


def _fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 0 and below 1")


def _above_zero(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} is {value}; it must be above 0")


def _given(name: str, value: str | list[str], what: str) -> None:
    if not value:
        raise ValueError(f"{name}= is missing; give it {what}")


@dataclass
class DataOptions:
    """Where images and captions come from."""

    kind: str = "shapes"  # shapes | flickr8k | karpathy | coco | csv | webdataset
    root: str | None = None  # folder of the data set; shapes need none
    file: str | None = None  # karpathy: the JSON; csv: the table; relative to root
    images: str | None = None  # folder of the images, where it is not the reader's usual one
    entities: str | None = None  # Flickr30k Entities, whose boxes attention is scored against
    train: str | None = None  # webdataset: its shards below root, as train-{000000..000099}.tar
    val: str | None = None  # likewise
    test: str | None = None  # likewise
    split: str = "val"  # the split that evaluation, and pictures of a data set, use
    limit: int | None = None  # at most so many images of each split
    # A training image is seen as it is and as so many − 1 crops, some mirrored; null: 1, or, with
    # `start`, as it was.
    views: int | None = None
    min_count: int = 5  # a word needs to occur so often in training captions to be learnt
    # The next two, where null, are `cache` and 0, or, with `start`, as they were.
    cache: str | None = None  # features of frozen encoders are kept under this folder
    workers: int | None = None  # processes that load images; 0 loads in the training process
    sizes: dict[str, int] = field(  # shapes: scenes per split
        default_factory=lambda: {"train": 5500, "val": 500, "test": 500, "novel": 500}
    )
    seed: int = 0  # shapes: another seed draws another data set

    @property
    def cache_folder(self) -> str:
        return self.cache or "cache"

    @property
    def loader_processes(self) -> int:
        return self.workers or 0

    def __post_init__(self) -> None:
        kinds = ("shapes", "flickr8k", "karpathy", "coco", "csv", "webdataset")
        _one_of("data.kind", self.kind, kinds)
        _at_least("data.limit", self.limit, 1)
        _at_least("data.views", self.views, 1)
        _at_least("data.min_count", self.min_count, 1)
        _at_least("data.workers", self.workers, 0)
        if self.kind in ("flickr8k", "coco") and self.root is None:
            raise ValueError(f"data={self.kind} needs data.root, the folder that holds it")
        if self.kind in ("karpathy", "csv") and self.file is None:
            raise ValueError(f"data={self.kind} needs data.file, the path of its file")
        if self.kind == "shapes" and self.entities is not None:
            raise ValueError("data.entities is for photographs; shapes know their own boxes")
        if self.kind == "webdataset" and None in (self.train, self.val):
            raise ValueError("data=webdataset needs data.train and data.val, their shards")


@dataclass
class EncoderOptions:
    """What turns an image into annotation vectors."""

    name: str = "tiny"  # tiny, any torchvision classification model, or timm/ and one of timm's
    node: str | None = None  # the trunk is cut behind this node (timm's: its level, −1 the last)
    # A torchvision weight name (timm's: pretrained), a state dict's path, or null (random).
    weights: str | None = None
    image_size: int = 64  # pixels, square
    fit: str = "squash"  # how an image becomes square: squash | crop | pad
    fine_tune_from: int | None = None  # first epoch that trains the encoder; null: it is frozen
    # Even then a torchvision CNN is not trained up to this node, and what it gives there is cached;
    # null: all is trained, from pixels.
    fine_tune_above: str | None = None
    learning_rate: float = 1e-4  # peak, for the encoder alone

    def __post_init__(self) -> None:
        _one_of("encoder.fit", self.fit, ("squash", "crop", "pad"))
        _at_least("encoder.image_size", self.image_size, 16)
        _at_most("encoder.image_size", self.image_size, 2048)
        _at_least("encoder.fine_tune_from", self.fine_tune_from, 0)
        if self.name != "tiny" and not self.name.startswith("timm/") and self.node is None:
            raise ValueError(f"encoder={self.name} needs encoder.node, where the trunk is cut")

    @property
    def tuned(self) -> bool:
        return self.fine_tune_from is not None

    @property
    def fixed_node(self) -> str | None:
        """Up to which the trunk of an encoder that learns does not."""
        return self.fine_tune_above if self.tuned else None

    @property
    def cached(self) -> bool:
        """Whether something fixed sees the pixels, so that it need see them but once."""
        return not self.tuned or self.fixed_node is not None


@dataclass
class DecoderOptions:
    """The decoder's sizes, and where it departs from the paper (equation numbers are Xu's)."""

    hidden: int = 512  # H
    embedding: int = 512  # E
    attention: int = 512  # A, width of the attention perceptron
    projection: int = 0  # annotations are mapped to this size and normalised first; 0: as they are
    attention_kind: str = "soft"  # soft | hard | multihead | dot | adaptive | none
    attention_nonlinearity: str = "tanh"  # in f_att, equation (4): tanh | relu; not for dot
    heads: int = 2  # multihead and dot: so many share A, and the annotations' size
    estimator: str = "reinforce"  # hard: how it learns, reinforce | gumbel | straight_through
    expectation: float = 0.5  # reinforce: probability that an image is read by expectation, 4.1
    temperature: float = 1.0  # gumbel and straight_through: of the relaxed draw
    beta: str = "scalar"  # gate on the context vector, 4.2.1: scalar | vector | none
    cell: str = "lstm"  # lstm | peephole | coupled (input gate is 1 − forget gate) | gru
    shared_init: bool = False  # one shared hidden layer before the heads that give h_0 and c_0
    forget_bias: float = 0.0  # initial bias of the forget gate
    deep_output: bool = True  # equation (7); false: the logits see h_t alone
    output_tanh: bool = False  # a tanh on equation (7)'s sum
    tied_output: bool = False  # L_o is the embedding matrix
    scaled_embedding: bool = False  # the LSTM reads √E times the embedding of the word before
    dropout: float = 0.5

    def __post_init__(self) -> None:
        for name in ("hidden", "embedding", "attention", "heads"):
            _at_least(f"decoder.{name}", getattr(self, name), 1)
        _at_least("decoder.projection", self.projection, 0)
        _fraction("decoder.dropout", self.dropout)
        kinds = ("soft", "hard", "multihead", "dot", "adaptive", "none")
        _one_of("decoder.attention_kind", self.attention_kind, kinds)
        _one_of("decoder.attention_nonlinearity", self.attention_nonlinearity, ("tanh", "relu"))
        _one_of("decoder.estimator", self.estimator, ("reinforce", "gumbel", "straight_through"))
        _fraction("decoder.expectation", self.expectation)
        _above_zero("decoder.temperature", self.temperature)
        _one_of("decoder.beta", self.beta, ("scalar", "vector", "none"))
        if self.attention_kind == "adaptive" and self.beta != "none":
            raise ValueError("adaptive attention has a gate of its own: set decoder.beta=none")
        _one_of("decoder.cell", self.cell, ("lstm", "peephole", "coupled", "gru"))


@dataclass
class LossOptions:
    """Equation (14): L = Σ_t −log p(y_t) + λ Σ_i (1 − Σ_t α_ti)², summed over captions.

    Where attention is told where to look, + λ_g Σ_t −log Σ_i α_ti m_ti (after Liu et al. 2017).

    The first term becomes −Σ_t A log p(y_t) where sampled captions y are rewarded, see `objective`.
    """

    objective: str = "cross_entropy"  # cross_entropy | self_critical (Rennie et al. 2017)
    samples: int = 5  # self_critical: captions drawn of each image, for whose CIDEr-D A stands
    baseline: str = "others"  # self_critical, the reward that A is above: others (mean of) | greedy
    penalty: float = 1.0  # λ, the weight of the doubly stochastic penalty
    per: str = "caption"  # both sums are divided by the number of captions, or of words
    label_smoothing: float = 0.0
    reinforce: float = 1.0  # λ_r of section 4.1, for hard attention that learns by reinforce
    entropy: float = 0.002  # λ_e of section 4.1, likewise; the authors' code has 0.002
    grounding: float = 0.0  # λ_g: attention is to lie in the regions that a word names, if known

    def __post_init__(self) -> None:
        for name in ("penalty", "reinforce", "entropy", "grounding"):
            _at_least(f"loss.{name}", getattr(self, name), 0)
        _one_of("loss.per", self.per, ("caption", "word"))
        _fraction("loss.label_smoothing", self.label_smoothing)
        _one_of("loss.objective", self.objective, ("cross_entropy", "self_critical"))
        _one_of("loss.baseline", self.baseline, ("others", "greedy"))
        _at_least("loss.samples", self.samples, 2 if self.baseline == "others" else 1)
        if self.objective == "self_critical" and self.label_smoothing:
            raise ValueError("loss.objective=self_critical has no labels: loss.label_smoothing=0")
        if self.objective == "self_critical" and self.grounding:
            raise ValueError("loss.objective=self_critical tells of no regions: loss.grounding=0")


@dataclass
class TrainingOptions:
    """How the weights are found."""

    epochs: int = 12
    batch_images: int = 32  # images per update, with all their captions, over all processes
    captions_together: int | None = None  # an image's captions in one update; null: all, fastest
    one_length: bool = False  # each update's captions have one length; with captions_together=1
    accumulation: int = 1  # an update's images are taken in so many pieces, to save memory
    optimizer: str = "adamw"  # adamw | adam | rmsprop (as the paper's authors have it)
    learning_rate: float = 1e-3  # peak, for the decoder
    weight_decay: float = 0.01
    schedule: str = "cosine"  # after the warm-up: cosine (to zero) | constant
    warmup: float = 0.05  # fraction of all updates over which the learning rate rises
    scheduled_sampling: float = 0.0  # own words read in place of the caption's; rises up to this
    clip: float = 5.0  # largest norm of the gradient
    # An update whose loss or gradient is no number is skipped; more in a row than this end the run.
    max_skipped: int = 10
    ema: float = 0.0  # decay of the averaged weights that are validated and kept; 0: none
    precision: str = "auto"  # auto (bf16 where the hardware has it) | fp32 | bf16
    best: str = "bleu-4"  # validation score that tells the best checkpoint: bleu-4 | cider
    patience: int | None = None  # stop after so many validations without a better score
    validate_every: int = 1  # epochs
    save_every: int | None = None  # updates between saves of `last` within an epoch
    threads: int | None = None  # of a process's operators on the CPU; null: one per core
    seed: int = 0
    pictures: int = 4  # validation images to draw at the end

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_images", "accumulation", "validate_every"):
            _at_least(f"training.{name}", getattr(self, name), 1)
        for name in ("patience", "save_every", "captions_together", "threads"):
            _at_least(f"training.{name}", getattr(self, name), 1)
        for name in ("pictures", "max_skipped"):
            _at_least(f"training.{name}", getattr(self, name), 0)
        _one_of("training.optimizer", self.optimizer, ("adamw", "adam", "rmsprop"))
        _one_of("training.schedule", self.schedule, ("cosine", "constant"))
        _one_of("training.best", self.best, ("bleu-4", "cider"))
        check_precision("training.precision", self.precision)
        _fraction("training.warmup", self.warmup)
        _fraction("training.ema", self.ema)
        _fraction("training.scheduled_sampling", self.scheduled_sampling)
        if self.one_length and self.captions_together != 1:
            raise ValueError(
                "training.one_length needs training.captions_together=1: an image's captions differ"
            )
        if self.accumulation > self.batch_images:
            raise ValueError(
                f"training.accumulation is {self.accumulation}, more than the "
                f"{self.batch_images} images of an update (training.batch_images)"
            )


@dataclass
class SearchOptions:
    """How words are chosen."""

    strategy: str = "beam"  # greedy | beam | sample
    width: int = 5  # beams kept, or samples drawn, per image
    max_length: int = 30  # words
    min_length: int = 1  # words
    length_penalty: float = 0.5  # beams are ranked by log-probability / length ** this
    consensus: float = 0.0  # above 0: beams are ranked by how well all agree on them
    block_ngrams: int = 0  # no n-gram of this size twice in a caption; 0: no such rule
    temperature: float = 1.0  # sampling: below 1 is bolder
    top_k: int = 0  # sampling: among the k likeliest words; 0: all
    top_p: float = 1.0  # sampling: among the likeliest words that make up this probability
    seed: int = 0  # sampling

    def __post_init__(self) -> None:
        _one_of("search.strategy", self.strategy, ("greedy", "beam", "sample"))
        for name in ("width", "max_length"):
            _at_least(f"search.{name}", getattr(self, name), 1)
        for name in ("min_length", "length_penalty", "consensus", "block_ngrams", "top_k"):
            _at_least(f"search.{name}", getattr(self, name), 0)
        if self.min_length > self.max_length:
            raise ValueError(
                f"search.min_length is {self.min_length}, more than the {self.max_length} words "
                "of search.max_length"
            )
        if self.consensus and self.strategy != "beam":
            raise ValueError(
                f"search.consensus is among beams, but search.strategy is {self.strategy}; "
                "say search.strategy=beam or search.consensus=0"
            )
        _above_zero("search.temperature", self.temperature)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"search.top_p is {self.top_p}; it must be above 0 and at most 1")

    @property
    def captions(self) -> int:
        """That are written of each image side by side."""
        return 1 if self.strategy == "greedy" else self.width


# What a checkpoint that a run starts from leaves to the run: where the data are now, in how many
# views they are seen, how they are loaded, and how the model is trained from here on.
ANEW = {
    "data": ("root", "file", "images", "entities", "views", "cache", "workers"),
    "encoder": ("fine_tune_from", "fine_tune_above", "learning_rate"),
    "decoder": ("dropout",),
}

# What may change in a run's config.yaml before it is resumed: it changes no number.
MOVED = (
    *("name", "runs", "resume", "device", "debug", "training.save_every", "training.pictures"),
    *("data.root", "data.file", "data.images", "data.entities", "data.cache", "data.workers"),
)


@dataclass
class TrainOptions:
    """scripts/train.py. A checkpoint's config.yaml holds exactly these."""

    name: str | None = None  # the run's folder is runs/<name>; null: the first free name
    runs: str = "runs"
    resume: str | None = None  # a run's folder: goes on exactly where it stopped
    start: str | None = None  # a checkpoint to go on from: its data, encoder, decoder and weights
    device: str | None = None  # cpu, cuda, cuda:1, mps …; null: the best there is
    debug: bool = False  # show tracebacks
    dry_run: bool = False  # tell what time and disk the run will take, and write nothing
    data: DataOptions = field(default_factory=DataOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    decoder: DecoderOptions = field(default_factory=DecoderOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    search: SearchOptions = field(default_factory=SearchOptions)  # validation's

    def __post_init__(self) -> None:
        if self.loss.objective == "self_critical" and not self.start:
            raise ValueError(
                "loss.objective=self_critical needs start=, a checkpoint that cross-entropy made"
            )
        if self.loss.objective == "self_critical" and self.training.scheduled_sampling:
            raise ValueError(
                "loss.objective=self_critical reads its own words alone: "
                "training.scheduled_sampling=0"
            )

    def from_start(self, trained: TrainOptions) -> TrainOptions:
        """These options with the data and the model of the run that `start` came from, but `ANEW`.

        Data are where they were, in as many views, loaded in the same way, unless told otherwise.
        """
        data, encoder, decoder = (
            {name: getattr(getattr(self, part), name) for name in names}
            for part, names in ANEW.items()
        )
        data = {name: value for name, value in data.items() if value is not None}
        return replace(
            self,
            data=replace(trained.data, **data),
            encoder=replace(trained.encoder, **encoder),
            decoder=replace(trained.decoder, **decoder),
        )


@dataclass
class SplitOptions:
    """Which images of the data set a checkpoint was trained on; null: as it was in training."""

    split: str = "val"
    root: str | None = None
    file: str | None = None
    images: str | None = None
    entities: str | None = None
    limit: int | None = None
    cache: str | None = None
    workers: int = 0

    def over(self, trained: DataOptions) -> DataOptions:
        """The data options of training, with those changed that were given here."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(trained, **{**given, "limit": self.limit})


@dataclass
class MetricOptions:
    """How captions are scored."""

    tokenizer: str = "words"  # words | ptb (Penn Treebank's, as COCO's evaluation has; needs Java)
    java: bool = False  # METEOR and SPICE too, where Java and pycocoevalcap are there
    time_limit: float = 600  # seconds that each Java program may take

    def __post_init__(self) -> None:
        _one_of("metrics.tokenizer", self.tokenizer, ("words", "ptb"))
        _at_least("metrics.time_limit", self.time_limit, 1)


@dataclass
class EvaluateOptions:
    """scripts/evaluate.py."""

    checkpoint: str = ""  # a checkpoint's folder, e.g. runs/shapes/checkpoints/best
    out: str = "outputs/evaluation"  # folder; -: metrics.json alone, to standard output
    device: str | None = None
    precision: str = "fp32"  # fp32 | bf16, faster and a little worse | auto
    debug: bool = False
    data: SplitOptions = field(default_factory=SplitOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    metrics: MetricOptions = field(default_factory=MetricOptions)

    def __post_init__(self) -> None:
        _given("checkpoint", self.checkpoint, "a checkpoint's folder, e.g. runs/x/checkpoints/best")
        check_precision("precision", self.precision)


@dataclass
class CompareOptions:
    """scripts/compare.py."""

    # Files of COCO results, or folders of evaluate.py or train.py; name=path gives one a name. The
    # others are compared with the first.
    captions: list[str] = field(default_factory=list)
    out: str = "outputs/comparison"  # folder; -: comparison.csv alone, to standard output
    debug: bool = False
    data: DataOptions = field(default_factory=DataOptions)  # whose references of data.split
    metrics: MetricOptions = field(default_factory=MetricOptions)

    def __post_init__(self) -> None:
        _given("captions", self.captions, "a list, e.g. captions=[a/captions.json,runs/b]")


@dataclass
class CaptionOptions:
    """scripts/caption.py."""

    checkpoint: str = ""
    images: str = ""  # a file, a folder or a glob; or tars or Parquet tables, '*.tar', '*.parquet'
    # A file of JSON lines; x.json: COCO results; x.parquet: a table; -: lines to standard output.
    out: str = "-"
    batch: int = 100  # images decoded together
    actors: int = 0  # so many captioners on a Ray cluster; 0: one, in this process
    device: str | None = None
    precision: str = "fp32"  # fp32 | bf16, faster and a little worse | auto
    debug: bool = False
    search: SearchOptions = field(default_factory=SearchOptions)

    def __post_init__(self) -> None:
        _given("checkpoint", self.checkpoint, "a checkpoint's folder, e.g. runs/x/checkpoints/best")
        check_precision("precision", self.precision)
        _given("images", self.images, "a file, a folder or a glob such as 'photos/*.jpg'")
        _at_least("batch", self.batch, 1)
        _at_least("actors", self.actors, 0)


@dataclass
class AverageOptions:
    """scripts/average.py."""

    checkpoints: list[str] = field(default_factory=list)  # folders; all started from the same one
    shares: list[float] | None = None  # of each in the mean, in any unit; null: all the same
    out: str = "outputs/average"  # a new folder
    debug: bool = False

    def __post_init__(self) -> None:
        _given("checkpoints", self.checkpoints, "a list, e.g. checkpoints=[a,b]")


@dataclass
class ExportOptions:
    """scripts/export.py."""

    checkpoint: str = ""
    out: str = "outputs/onnx"  # a new folder
    debug: bool = False
    search: SearchOptions = field(default_factory=SearchOptions)  # greedy or beam

    def __post_init__(self) -> None:
        _given("checkpoint", self.checkpoint, "a checkpoint's folder, e.g. runs/x/checkpoints/best")


@dataclass
class DemoOptions:
    """scripts/demo.py."""

    checkpoint: str = ""
    host: str = "127.0.0.1"  # 0.0.0.0: other machines may call, too
    port: int = 7860
    examples: int = 6  # generated scenes to try
    megabytes: int = 20  # largest file that may be sent
    megapixels: int = 50  # largest picture in it
    rate: int = 60  # pictures a minute from one address
    queue: int = 16  # pictures that may wait
    device: str | None = None
    debug: bool = False
    search: SearchOptions = field(default_factory=SearchOptions)  # what the page begins with

    def __post_init__(self) -> None:
        _given("checkpoint", self.checkpoint, "a checkpoint's folder, e.g. runs/x/checkpoints/best")
        for name in ("port", "megabytes", "megapixels", "rate", "queue"):
            _at_least(name, getattr(self, name), 1)
        _at_least("examples", self.examples, 0)


@dataclass
class VisualizeOptions:
    """scripts/visualize.py."""

    checkpoint: str = ""
    images: str | None = None  # a file, a folder or a glob; null: the first of data.split
    view: str = "attention"  # attention (.png, .html, .npz) | gates (.gates.png) | walk (.gif)
    out: str = "outputs/attention"  # folder; of several pictures' attention, with an index.html
    device: str | None = None
    debug: bool = False
    data: SplitOptions = field(default_factory=lambda: SplitOptions(limit=4))
    search: SearchOptions = field(default_factory=SearchOptions)

    def __post_init__(self) -> None:
        _given("checkpoint", self.checkpoint, "a checkpoint's folder, e.g. runs/x/checkpoints/best")
        _one_of("view", self.view, ("attention", "gates", "walk"))


@dataclass
class SizeOptions:
    """What is timed: the paper's decoder at these sizes, with captions as long as Flickr8k's."""

    captions: int = 64  # of an update
    per_image: int = 5  # captions of an image
    locations: int = 49  # L, of features that are given
    annotation: int = 1280  # D, likewise
    hidden: int = 512
    embedding: int = 512
    attention: int = 512
    vocabulary: int = 2541
    images: int = 100  # pictures that are captioned
    batch: int = 100  # pictures together
    width: int = 5
    max_length: int = 12  # words written; untrained weights, which are timed, do not end before
    cached: list[int] = field(default_factory=lambda: [6_000, 123_000])  # images of an epoch
    searched: list[int] = field(default_factory=lambda: [100, 1_000])  # images of a search
    wide: int = 10  # beams of that search

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            for each in value if isinstance(value, list) else [value]:
                _at_least(f"sizes.{name}", each, 1)
        _at_least("sizes.vocabulary", self.vocabulary, 5)  # of which four are no words
        for name in ("cached", "searched"):  # whose memory is compared
            if len(numbers := getattr(self, name)) != 2:
                raise ValueError(f"sizes.{name} is {numbers}; it must be two numbers of images")


@dataclass
class GrowthOptions:
    """The sizes that growth=true times one by one, the others staying as they are."""

    vocabulary: list[int] = field(default_factory=lambda: [2_500, 5_000, 10_000, 25_000, 50_000])
    locations: list[int] = field(default_factory=lambda: [49, 100, 144, 196])
    captions: list[int] = field(default_factory=lambda: [16, 32, 64, 128, 256])
    batch: list[int] = field(default_factory=lambda: [1, 4, 16, 50, 100])
    width: list[int] = field(default_factory=lambda: [1, 3, 5, 10])
    images: list[int] = field(default_factory=lambda: [100, 300, 1_000])

    def __post_init__(self) -> None:
        for name, values in vars(self).items():
            for each in values:
                _at_least(f"grow.{name}", each, 1)


@dataclass
class BenchmarkOptions:
    """scripts/benchmark.py."""

    out: str = "outputs/benchmark"  # folder; -: benchmark.json alone, to standard output
    images: str | None = None  # a file, a folder or a glob; null: generated scenes
    repeats: int = 9  # timed runs of each contestant, after one that is not
    growth: bool = False  # also how time and memory grow with each size, and a plot for each
    device: str | None = None
    debug: bool = False
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    sizes: SizeOptions = field(default_factory=SizeOptions)
    grow: GrowthOptions = field(default_factory=GrowthOptions)

    def __post_init__(self) -> None:
        _at_least("repeats", self.repeats, 1)
        if self.growth and self.out == "-":
            raise ValueError("growth=true draws plots, so out= must be a folder")
