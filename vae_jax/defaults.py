"""Every field of the configuration with its default and its limits."""

from ml_collections import ConfigDict

from vae_jax import sweep
from vae_jax.likelihoods import LIKELIHOODS
from vae_jax.models import MODELS
from vae_jax.networks import ENCODERS
from vae_jax.networks.mlp import ACTIVATIONS
from vae_jax.objectives import OBJECTIVES
from vae_jax.optim import DECAYS, OPTIMIZERS


def _section(**fields) -> ConfigDict:
    return ConfigDict(fields)


def default() -> ConfigDict:
    sections = _sections()
    lists = dict.fromkeys(sweep.sweepable(sections), ())  # empty = not swept
    sections["sweep"] = _section(
        mode="product",  # "product" | "zip"
        max_members=0,  # trained at once: a larger sweep is split into equal parts; 0 = what fits into memory
        shared_data=True,  # False: a member's order of examples also depends on its hypers.seed
        **lists,
    )
    return ConfigDict(sections)


def _sections() -> dict[str, ConfigDict]:
    return {
        "data": _section(
            name="mnist",  # "mnist" | "digits" | "file"
            source="auto",  # "auto" | "tfds" | "official" | "embedded"
            data_dir="",  # where prepared TFDS data lies; empty = $TFDS_DATA_DIR, then TFDS's default
            manual_dir="",  # where the official files lie; empty = the download cache, then the network
            path="",  # of an .npy or .npz file, when name = "file"
            num_valid=5000,  # examples of train that are held out for validation
            num_test=0,  # likewise for test, where the data has no test split of its own
            binarize="dynamic",  # "dynamic" | "threshold" | "none"
            seed=0,  # of the order of examples
            resident="auto",  # "auto" | "yes" | "no": whether the training set lies on the device
        ),
        "model": _section(
            name="vae",
            encoder="mlp",
            hidden=(200, 200),  # layer sizes of the encoder; the decoder mirrors them
            activation="relu",
            likelihood="bernoulli",  # "bernoulli" | "gaussian"
            sigma=1.0,  # standard deviation of the Gaussian likelihood, in units of x
            learn_sigma=False,  # whether sigma is a parameter that starts there
        ),
        "objective": _section(
            name="elbo",
            num_samples=1,  # posterior samples per example and step
        ),
        "hypers": _section(
            seed=0,  # of initial parameters and training noise
            beta=1.0,  # weight of the rate
            beta_warmup_epochs=5.0,  # beta rises linearly from 0 over so many epochs
            latent_dim=50,
            learning_rate=3e-3,  # before warm-up and decay
            lr_warmup_epochs=1.0,  # the learning rate rises linearly from 0 over so many epochs
            lr_final_fraction=0.01,  # of learning_rate, at the end of the schedule and beyond
            clip_norm=100.0,  # gradients with a larger global norm are scaled down to it, in nats
        ),
        "train": _section(
            batch_size=100,
            num_epochs=100.0,
            schedule_epochs=0.0,  # the horizon of the learning-rate decay; 0 = num_epochs
            optimizer="adam",
            lr_decay="cosine",  # "cosine" | "linear" | "constant"
            steps_per_call=0,  # optimizer steps per compiled call and logged row; 0 = a fifth of an epoch, <= 100
            init_from="",  # a finished run's workdir: start from its parameters, at step 0
        ),
        "eval": _section(
            every_epochs=1.0,  # validation during training
            nll_samples=500,  # importance samples per example at the end
            params="last",  # "last" | "best": the parameters that are evaluated and loaded
            seed=0,  # of the evaluation noise and the binarization of valid and test
            batch_size=100,  # examples per compiled call
            samples_per_step=10,  # importance samples of each held in memory at a time
        ),
        "checkpoint": _section(
            every_epochs=5.0,
            keep=2,  # the latest so many
        ),
    }


CHOICES = {
    "data.source": ("auto", "tfds", "official", "embedded"),
    "data.binarize": ("dynamic", "threshold", "none"),
    "data.resident": ("auto", "yes", "no"),
    "model.name": tuple(MODELS),
    "model.encoder": tuple(ENCODERS),
    "model.activation": tuple(ACTIVATIONS),
    "model.likelihood": tuple(LIKELIHOODS),
    "objective.name": tuple(OBJECTIVES),
    "train.optimizer": tuple(OPTIMIZERS),
    "train.lr_decay": tuple(DECAYS),
    "eval.params": ("last", "best"),
    "sweep.mode": ("product", "zip"),
}
POSITIVE = (
    "model.sigma",
    "objective.num_samples",
    "hypers.latent_dim",
    "hypers.learning_rate",
    "hypers.clip_norm",
    "train.batch_size",
    "train.num_epochs",
    "eval.every_epochs",
    "eval.nll_samples",
    "eval.batch_size",
    "eval.samples_per_step",
    "checkpoint.every_epochs",
    "checkpoint.keep",
)
NOT_NEGATIVE = (
    "data.num_valid",
    "data.num_test",
    "data.seed",
    "hypers.seed",
    "hypers.beta",
    "hypers.beta_warmup_epochs",
    "hypers.lr_warmup_epochs",
    "hypers.lr_final_fraction",
    "train.schedule_epochs",
    "train.steps_per_call",
    "eval.seed",
    "sweep.max_members",
)
