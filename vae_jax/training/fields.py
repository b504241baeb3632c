"""The fields of training, evaluation and checkpoints, and what must hold between them."""

from vae_jax.types import Field

HYPERS = {
    "seed": Field(0, "of initial parameters and training noise", least=0, below=2**31),
    "latent_dim": Field(50, "latent units", above=0),
}
OBJECTIVE = {"num_samples": Field(1, "posterior samples per example and step", above=0)}
TRAIN = {
    "batch_size": Field(100, "examples per step", above=0),
    "num_epochs": Field(100.0, "passes over the training set", above=0),
    "schedule_epochs": Field(0.0, "horizon of the learning-rate schedule; 0: num_epochs", least=0),
    "dtype": Field(
        "float32", "what networks compute in while training", choices=("float32", "bfloat16")
    ),
    "ema_decay": Field(
        0.0, "of the moving average of the parameters, such as 0.999; 0: none", least=0, below=1
    ),
    "early_stop_epochs": Field(
        0.0, "training ends without improvement for so long; 0: never", least=0
    ),
    "steps_per_call": Field(
        0, "steps per compiled call and logged row; 0: a fifth of an epoch, <= 100", least=0
    ),
    "init_from": Field("", "a finished run's workdir: start from its parameters, at step 0"),
}
EVAL = {
    "every_epochs": Field(1.0, "between validations during training", above=0),
    "select": Field(
        "elbo",
        "what validations choose the best parameters by: the ELBO, or the bound of "
        "objective.num_samples samples",
        choices=("elbo", "bound"),
    ),
    "nll_samples": Field(500, "importance samples per example at the end", above=0),
    "params": Field(
        "auto",
        "which parameters: auto is best with early stopping, else ema where there is one, else "
        "last",
        choices=("auto", "last", "ema", "best"),
    ),
    "seed": Field(0, "of noise, and of the binarization of valid and test", least=0, below=2**31),
    "batch_size": Field(100, "examples per compiled call", above=0),
    "samples_per_step": Field(10, "importance samples of each in memory at a time", above=0),
    "estimators": Field((), "estimates of the test set beyond that bound; (): none"),
    "all_members": Field(False, "estimates for every member of a sweep, not only the best"),
    "bounds_examples": Field(200, "test examples, chosen by seed, for expensive bounds", above=0),
    "label": Field("", "the labels that metrics and pictures use; empty: the first"),
    "explorer": Field(True, "whether report.html lets one move through the codes of an mlp"),
    "tensorboard": Field(False, "whether event files for TensorBoard are written, too"),
}
CHECKPOINT = {
    "every_epochs": Field(5.0, "between checkpoints", above=0),
    "keep": Field(2, "the latest so many", above=0),
}
SWEEP = {
    "mode": Field("product", "how lists are combined", choices=("product", "zip")),
    "max_members": Field(0, "trained at once; 0: as many as fit into memory", least=0),
    "shared_data": Field(True, "False: a member's order of examples also depends on its seed"),
}


def fits(config: dict, _data) -> str:
    """What is wrong between these fields of a member's config {"section.field": value}, or ""."""
    if config["train.init_from"] and config["sweep.latent_dim"]:
        return (
            "train.init_from gives every member the parameters of one run, so sweep.latent_dim "
            "must be empty"
        )
    if config["eval.params"] == "ema" and not config["train.ema_decay"]:
        return "eval.params is 'ema', but no average is kept: set train.ema_decay, such as 0.999"
    patience, every = config["train.early_stop_epochs"], config["eval.every_epochs"]
    if patience and patience < every:
        return (
            f"train.early_stop_epochs is {patience:g}, but a validation comes only every {every:g} "
            "epochs (eval.every_epochs): be at least as patient"
        )
    warm = config["hypers.beta_warmup_epochs"]
    if config["eval.params"] == "best" and warm >= config["train.num_epochs"]:
        return (
            "eval.params is 'best', but no validation counts before hypers.beta_warmup_epochs "
            f"({warm:g}) are over: train longer or warm up faster"
        )
    return ""
