"""The workdir of a run: what config.json records, and whether a run may go on there."""

import hashlib
import importlib.metadata
import os
from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax import __version__, data
from vae_jax import config as settings
from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.workdir import files

# Fields that may differ when a run goes on: none of them changes the trajectory. Where the data comes from
# may differ too, as long as it is the same data.
FREE = (
    "eval.",
    "checkpoint.",
    "data.data_dir",
    "data.manual_dir",
    "data.path",
    "data.source",
    "data.resident",
)


def load_dataset(config: ConfigDict, workdir: Path) -> Dataset:
    """The dataset; where "auto" has chosen a source before, a resumed run keeps it."""
    fields, stored = config.data, read_record(workdir)
    source = fields.source
    if source == "auto" and stored and stored["dataset"]["name"] == fields.name and "dataset" not in stored["own"]:
        source = stored["dataset"]["source"]
        if source == "embedded" and fields.name == "mnist":
            logging.warning("%s began on the embedded subset and stays there: for MNIST, use a new --workdir", workdir)
    return data.load(
        fields.name,
        source=source,
        path=fields.path,
        data_dir=fields.data_dir,
        manual_dir=fields.manual_dir,
        resize=fields.resize,
        crop=fields.crop,
        skip_broken=fields.skip_broken,
        num_valid=fields.num_valid,
        num_test=fields.num_test,
    )


def describe_dataset(dataset: Dataset, binarization: str) -> dict:
    """The `dataset` part of every output; `fingerprint` tells other data of the same size apart."""
    digest = hashlib.blake2b(digest_size=8)
    for split in (dataset.train, dataset.valid, dataset.test):
        digest.update(np.ascontiguousarray(split.take(np.linspace(0, split.num - 1, 256).astype(np.int64))))
        digest.update(b"" if split.label is None else np.ascontiguousarray(split.labels(slice(None))))
    return {
        "name": dataset.name,
        "source": dataset.source,
        "num_train": dataset.train.num,
        "num_valid": dataset.valid.num,
        "num_test": dataset.test.num,
        "binarization": binarization,
        "preparation": dataset.preparation,
        "label_names": list(dataset.label_names),
        "example_shape": list(dataset.example_shape),
        "fingerprint": digest.hexdigest(),
    }


def dataset_name(description: dict) -> str:
    """The dataset as it may be called: a subset never by the name of the whole."""
    name, source = description["name"], description["source"]
    return "5,000 training digits of MNIST, a SUBSET (embedded)" if is_subset(description) else f"{name} ({source})"


def is_subset(description: dict) -> bool:
    return (description["name"], description["source"]) == ("mnist", "embedded")


def describe_run(config: ConfigDict, dataset: dict, own: list[str], init_from: dict | None) -> dict:
    """What config.json holds. `own` names the parts that came as Python objects, not from the config."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    return {
        "config": config.to_dict(),
        "dataset": dataset,
        "own": own,
        "init_from": init_from,
        "versions": {"vae_jax": __version__} | versions,
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "cpu_threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
    }


def open_workdir(workdir: Path, record: dict) -> dict:
    """Makes the workdir, or checks that the run in it is this one; returns the record that now stands there.

    Raises:
      UserError: not writable, or it holds a different run; the fields that differ are named.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / ".writable").touch()
        (workdir / ".writable").unlink(missing_ok=True)  # several processes may do this at once
    except OSError as error:
        raise UserError(f"workdir {workdir} is not writable ({error.strerror}); choose another --workdir") from error
    before = read_record(workdir)
    if before is not None:
        check_same_run(workdir, before, record)
        record = record | {"init_from": record["init_from"] or before["init_from"]}
    files.write_json(workdir / "config.json", record)
    return record


def read_record(workdir: Path) -> dict | None:
    stored = files.read_json(workdir / "config.json")
    if stored is not None and not (isinstance(stored, dict) and {"config", "dataset", "own"} <= stored.keys()):
        raise UserError(f"{workdir / 'config.json'} is not a run's: choose another --workdir")
    return stored


def read_config(record: dict) -> ConfigDict:
    """The config of a record, checked; a field that has come since, and changes no trajectory, has its default."""
    free = {name: value for name, value in settings.flatten(settings.default()).items() if name.startswith(FREE)}
    given = free | settings.flatten(ConfigDict(record["config"]))
    return settings.check(settings.unflatten(given), own_hypers=True)


def check_same_run(workdir: Path, before: dict, now: dict) -> None:
    old, new = settings.flatten(read_config(before)), settings.flatten(ConfigDict(now["config"]))
    if new["train.num_epochs"] > old["train.num_epochs"]:
        old["train.num_epochs"] = new["train.num_epochs"]
    differ = [
        f"{name} {old.get(name, 'unset')!r} -> {new.get(name, 'unset')!r}"
        for name in sorted(old.keys() | new.keys())
        if not name.startswith(FREE) and old.get(name) != new.get(name)
    ]
    data = {k: v for k, v in before["dataset"].items() if k != "source" and v != now["dataset"][k]}
    differ += [f"dataset {k} {v!r} -> {now['dataset'][k]!r}" for k, v in data.items()]
    differ += [f"{name} given as an object" for name in set(before["own"]) ^ set(now["own"])]
    if differ:
        hint = ""
        if all(d.startswith("train.schedule_epochs") for d in differ):
            hint = f" (to train longer, keep --config.train.schedule_epochs={old['train.schedule_epochs']:g})"
        raise UserError(f"{workdir} holds a different run: {'; '.join(differ)}{hint}; choose another --workdir")
    for part in ("versions", "devices"):
        changed = [f"{k} {v} -> {now[part].get(k)}" for k, v in before[part].items() if v != now[part].get(k)]
        if changed:
            logging.warning("resuming with other %s (%s): the same bits are not promised", part, ", ".join(changed))
