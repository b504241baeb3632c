"""Every field of the configuration with its default and its limits."""

from ml_collections import ConfigDict

from vae_jax.config import sweep
from vae_jax.likelihoods import LIKELIHOODS
from vae_jax.metrics.annealing import INITIAL, SCHEDULES
from vae_jax.models import MODELS
from vae_jax.models.ae import CODE_SAMPLERS
from vae_jax.networks import ENCODERS
from vae_jax.networks.layers import ACTIVATIONS
from vae_jax.objectives import OBJECTIVES
from vae_jax.optim.optimizers import OPTIMIZERS
from vae_jax.optim.schedules import BETA_SCHEDULES, DECAYS
from vae_jax.rng import ESTIMATES


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
            name="mnist",  # a data set (the README lists them), or your own: "file" | "folder"
            source="auto",  # "auto" | "tfds" | "official" | "embedded"
            data_dir="",  # where prepared TFDS data lies; empty = $TFDS_DATA_DIR, then TFDS's default
            manual_dir="",  # where the official files lie; empty = the download cache, then the network
            path="",  # of your .npy or .npz file, or of your folder of images
            # uint8 images may be cropped and then resized (bilinear, antialiased), once, before they are cached:
            resize=(),  # (height, width); () = not resized
            crop="center",  # "center": the largest centred part of resize's aspect ratio | "none": everything, squeezed
            # | "148x178": the centred part of 148 rows and 178 columns
            skip_broken=False,  # whether broken files of a folder are left out, with a warning, instead of refused
            num_valid=5000,  # examples of train that are held out for validation
            num_test=0,  # likewise for test, where the data has no test split of its own
            binarize="dynamic",  # "dynamic" | "threshold" | "none"
            seed=0,  # of the order of examples
            resident="auto",  # "auto" | "yes" | "no": whether the training set lies on the device
        ),
        "model": _section(
            name="vae",  # "vae" | "ae": the plain autoencoder
            code_sampler="none",  # "none" | "gaussian_fit": how an autoencoder is sampled
            encoder="mlp",  # "mlp" | "conv"; the decoder mirrors it
            hidden=(200, 200),  # layer sizes of an mlp
            channels=(32, 64),  # of each level of a conv; every level halves the image
            blocks=1,  # residual blocks of each level
            activation="relu",
            likelihood="bernoulli",  # of values 0 and 1; in [0, 1]: "continuous_bernoulli"; real: "gaussian",
            # "gaussian_per_pixel", "gaussian_optimal_sigma"; the 256 levels of uint8: "discretized_logistic",
            # "discretized_logistic_mixture", "categorical"
            sigma=1.0,  # standard deviation of the Gaussians, in units of x; per pixel and optimal: the first
            learn_sigma=False,  # of "gaussian": whether sigma is a parameter that starts there
            min_sigma=0.01,  # below which no sigma per pixel, or optimal sigma, falls; in units of x
            mixtures=10,  # components of each value's mixture
        ),
        "objective": _section(
            name="elbo",
            num_samples=1,  # posterior samples per example and step
        ),
        "hypers": _section(
            seed=0,  # of initial parameters and training noise
            beta=1.0,  # weight of the rate
            beta_warmup_epochs=5.0,  # beta rises linearly from 0 over so many epochs
            beta_cycle_epochs=20.0,  # and does so again after so many, with train.beta_schedule "cyclic"
            free_bits_unit_batch_mean=0.1,  # nats of every unit that cost nothing (objective free_bits)
            capacity=25.0,  # nats that the rate is drawn to (objective capacity)
            capacity_warmup_epochs=50.0,  # the capacity rises linearly from 0 over so many epochs
            gamma=100.0,  # weight of the distance of the rate from it
            latent_dim=50,
            learning_rate=3e-3,  # before warm-up and decay
            lr_warmup_epochs=1.0,  # the learning rate rises linearly from 0 over so many epochs
            lr_final_fraction=0.01,  # of learning_rate, at the end of the schedule and beyond
            weight_decay=1e-4,  # of adamw and lion
            clip_norm=100.0,  # gradients with a larger global norm are scaled down to it, in nats
        ),
        "train": _section(
            batch_size=100,
            num_epochs=100.0,
            schedule_epochs=0.0,  # the horizon of the learning-rate decay; 0 = num_epochs
            optimizer="adam",  # one of vae_jax.optim.OPTIMIZERS
            dtype="float32",  # "float32" | "bfloat16": what networks compute in; parameters and losses stay float32
            lr_decay="cosine",  # "cosine" | "linear" | "constant"
            beta_schedule="linear",  # "linear" | "cyclic"
            ema_decay=0.0,  # of the parameters' moving average, such as 0.999; 0 = none is kept
            early_stop_epochs=0.0,  # training ends when validation has not improved for so many epochs; 0 = never
            steps_per_call=0,  # optimizer steps per compiled call and logged row; 0 = a fifth of an epoch, <= 100
            init_from="",  # a finished run's workdir: start from its parameters, at step 0
        ),
        "eval": _section(
            every_epochs=1.0,  # validation during training
            nll_samples=500,  # importance samples per example at the end
            # The parameters that are evaluated and loaded: "last", "ema" (their average), "best" (by validation),
            # or "auto": best with early stopping, else the average where there is one, else the last.
            params="auto",
            seed=0,  # of the evaluation noise and the binarization of valid and test
            batch_size=100,  # examples per compiled call
            samples_per_step=10,  # importance samples of each held in memory at a time
            # Beyond that bound, of the test set, for the best member by validation: "iwae" (very many samples), "ais",
            # "bdmc" (AIS from both sides, on simulated examples), "rate_distortion", "gaps" (needs "ais"); of the
            # codes: "latents", "probes"; of the samples: "samples". () = none
            estimators=(),
            all_members=False,  # for every member of a sweep instead
            bounds_examples=200,  # test examples, chosen by seed, for iwae, ais, rate_distortion and gaps
            iwae_samples=(5_000, 100_000),  # importance samples per example
            ais_chains=16,  # per example
            ais_distributions=1000,  # from the initial one to the posterior
            ais_leapfrog=10,  # steps of each Hamiltonian trajectory
            ais_schedule="sigmoid",  # "linear" | "sigmoid": how the distributions are spaced
            ais_initial="encoder",  # "prior" | "encoder": where the chains start
            rate_distortion_max_beta=8.0,  # where the curve ends; beyond 1 it has half as many distributions again
            gap_steps=1000,  # of Adam, for the best q(z|x) of each example
            gap_samples=10,  # of z in each of them
            feature_examples=5_000,  # test, train and sampled examples that are compared in the space of features
            tensorboard=False,  # whether event files for TensorBoard are written, too; needs the extra [tensorboard]
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
    "model.code_sampler": tuple(CODE_SAMPLERS),
    "model.likelihood": tuple(LIKELIHOODS),
    "objective.name": tuple(OBJECTIVES),
    "train.optimizer": tuple(OPTIMIZERS),
    "train.lr_decay": tuple(DECAYS),
    "train.dtype": ("float32", "bfloat16"),
    "train.beta_schedule": tuple(BETA_SCHEDULES),
    "eval.params": ("auto", "last", "ema", "best"),
    "eval.estimators": ESTIMATES,
    "eval.ais_schedule": tuple(SCHEDULES),
    "eval.ais_initial": tuple(INITIAL),
    "sweep.mode": ("product", "zip"),
}
POSITIVE = (
    "model.sigma",
    "model.min_sigma",
    "model.mixtures",
    "model.blocks",
    "objective.num_samples",
    "hypers.latent_dim",
    "hypers.learning_rate",
    "hypers.clip_norm",
    "hypers.beta_cycle_epochs",
    "train.batch_size",
    "train.num_epochs",
    "eval.every_epochs",
    "eval.nll_samples",
    "eval.batch_size",
    "eval.samples_per_step",
    "eval.bounds_examples",
    "eval.iwae_samples",
    "eval.ais_chains",
    "eval.ais_distributions",
    "eval.ais_leapfrog",
    "eval.gap_steps",
    "eval.gap_samples",
    "eval.feature_examples",
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
    "hypers.free_bits_unit_batch_mean",
    "hypers.capacity",
    "hypers.capacity_warmup_epochs",
    "hypers.gamma",
    "hypers.weight_decay",
    "hypers.lr_warmup_epochs",
    "hypers.lr_final_fraction",
    "train.schedule_epochs",
    "train.ema_decay",
    "train.early_stop_epochs",
    "train.steps_per_call",
    "eval.seed",
    "sweep.max_members",
)
