"""The record of a run, config.json: what it holds, and whether a run may go on in its workdir."""

import hashlib
import importlib.metadata
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax import __version__, data
from vae_jax import config as settings
from vae_jax.config import Catalogue
from vae_jax.data import Dataset
from vae_jax.data.kinds import Scaling
from vae_jax.errors import UserError
from vae_jax.parallel import devices
from vae_jax.workdir import checkpoints, files

# Fields that may differ when a run goes on: none of them changes the trajectory. Where the data
# comes from, and how it is read, may differ too, as long as it is the same data.
FREE = (
    "eval.",
    "checkpoint.",
    "data.data_dir",
    "data.manual_dir",
    "data.path",
    "data.scale",
    "data.source",
    "data.resident",
)
WHOLE = 1 << 28  # bytes of examples, up to which all of them are in the fingerprint
_PLACES = ("data_dir", "manual_dir", "path")  # fields of data that name files or folders


def load_dataset(config: ConfigDict, workdir: Path) -> Dataset:
    """The dataset that config.data names; a resumed run keeps the source that "auto" chose.

    Raises:
      UserError: the data cannot be read.
    """
    fields = config.data
    dataset = data.load(
        fields.name,
        source=_source(fields, workdir),
        path=fields.path,
        data_dir=fields.data_dir,
        manual_dir=fields.manual_dir,
        resize=fields.resize,
        crop=fields.crop,
        skip_broken=fields.skip_broken,
        scale=fields.scale,
        num_valid=fields.num_valid,
        num_test=fields.num_test,
    )
    return dataset.conditioned(tuple(fields.condition))


def _source(fields: ConfigDict, workdir: Path) -> str:
    """config.data's source, or the one that "auto" chose when the run in `workdir` began."""
    stored = read_record(workdir)
    if fields.source != "auto" or not stored or "dataset" in stored["own"]:
        return fields.source
    if stored["dataset"]["name"] != fields.name:
        return fields.source
    source = stored["dataset"]["source"]
    if source == "embedded" and fields.name == "mnist":
        logging.warning(
            "%s began on the embedded subset and stays there: for MNIST, use a new --workdir",
            workdir,
        )
    return source


def describe_dataset(dataset: Dataset, binarization: str, scaling: Scaling | None) -> dict:
    """What the record and results.json hold of a dataset, `scaling` being that of its values."""
    return {
        "name": dataset.name,
        "source": dataset.source,
        "num_train": dataset.train.num,
        "num_valid": dataset.valid.num,
        "num_test": dataset.test.num,
        "binarization": binarization,
        "preparation": dataset.preparation,
        "stored_range": dataset.stored_range and list(dataset.stored_range),
        "label_names": list(dataset.label_names),
        "value_names": list(dataset.value_names),
        "example_shape": list(dataset.example_shape),
        "kind": dataset.kind,
        "labels": list(dataset.train.columns),
        "condition": dict(dataset.train.condition_dtypes()),
        "missing": dataset.train.observed is not None,
        "scaling": scaling and {k: np.ravel(v).tolist() for k, v in scaling._asdict().items()},
        "fingerprint": fingerprint(dataset),
    }


def fingerprint(dataset: Dataset) -> str:
    """A digest of the data; of large data, of 256 examples and all labels of each split."""
    digest = hashlib.blake2b(digest_size=8)
    splits = (dataset.train, dataset.valid, dataset.test)
    is_small = max(split.x.nbytes for split in splits) <= WHOLE

    def add(values) -> None:
        digest.update(np.ascontiguousarray(values).tobytes())

    for split in splits:
        some = np.linspace(0, split.num - 1, split.num if is_small else 256).astype(np.int64)
        for positions in np.array_split(split.rows[some], 64):  # a block at a time
            add(split.x[positions])
        if split.label is not None:
            add(split.labels(slice(None)))
        for name in list(split.columns)[1:]:
            add(split.labels(slice(None), name))
        if split.observed is not None:
            add(split.observed[split.rows[some]])
    return digest.hexdigest()


def scaling_of(description: dict) -> Scaling | None:
    """The scaling that a description of a dataset holds."""
    stored = description.get("scaling")
    return stored and Scaling(*(jnp.asarray(stored[k], jnp.float32) for k in Scaling._fields))


def dataset_name(description: dict) -> str:
    """The dataset as titles name it: a subset never has the name of the whole."""
    if is_subset(description):
        return "5,000 training digits of MNIST, a SUBSET (embedded)"
    return f"{description['name']} ({description['source']})"


def is_subset(description: dict) -> bool:
    """Whether it is the subset of MNIST that comes with a package."""
    return (description["name"], description["source"]) == ("mnist", "embedded")


def describe_run(config: dict, dataset: dict, own: list[str], init_from: dict | None) -> dict:
    """The record of a run: what config.json holds.

    Args:
      config, own: from `Catalogue.recorded`.
      dataset: from `describe_dataset`.
      init_from: the run whose parameters it starts from.
    """
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "config": config,
        "dataset": dataset,
        "own": own,
        "init_from": init_from,
        "versions": {"vae_jax": __version__} | versions,
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "cpu_threads": _cpu_threads(),
            "matmul_precision": devices.matmul_precision(),
        },
    }


def _cpu_threads() -> int | None:
    """How many CPU threads this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def open_workdir(workdir: Path, record: dict, catalogue: Catalogue) -> dict:
    """Writes the record of a run, or checks that the workdir holds this run; returns the record it
    then holds.

    Raises:
      UserError: it holds a different run; the fields that differ are named.
    """
    before = read_record(workdir)
    if before is not None:
        check_same_run(workdir, before, record, catalogue)
        record = record | {"init_from": record["init_from"] or before["init_from"]}
    record = record | {"config": _from_anywhere(record["config"])}
    files.write_json(workdir / "config.json", record)
    return record


def _from_anywhere(config: dict) -> dict:
    """The recorded config, whose data is found whatever folder a command is started in."""
    data = config["data"]
    places = {name: str(Path(data[name]).expanduser().absolute()) for name in _PLACES if data[name]}
    return config | {"data": data | places}


def read_record(workdir: Path) -> dict | None:
    """The record in `workdir`, None where it holds no run.

    Where config.json is missing, it is the one that the checkpoints hold.

    Raises:
      UserError: its config.json is damaged, or not that of a run.
    """
    path = workdir / "config.json"
    stored = files.read_json(path)
    if stored is None:
        stored = checkpoints.saved_record(workdir / "checkpoints")
        if stored is not None:
            logging.warning("%s is missing; what the checkpoints say of their run is used", path)
    return stored


def read_config(record: dict, catalogue: Catalogue) -> ConfigDict:
    """The config of a record, checked.

    A field that an older record lacks has its default where the run does not depend on it: it is of
    a part that the run is not made of, or changes no trajectory.
    """
    known = settings.flatten(catalogue.default())
    stored = settings.flatten(ConfigDict(record["config"]))
    chosen = catalogue.all_chosen(known | stored)
    later = {
        name: value
        for name, value in known.items()
        if name.startswith(FREE) or not _is_of(catalogue.owners.get(name), chosen)
    }
    return settings.check(settings.unflatten(later | stored), catalogue)


def _is_of(owners: list | None, chosen: list) -> bool:
    """Whether a field is used: by a chosen part, or by every training."""
    return owners is None or any(part in chosen for part in owners)


def check_same_run(workdir: Path, before: dict, now: dict, catalogue: Catalogue) -> None:
    """Checks that two records are of one run, whose training may be longer now.

    Other versions or devices are only a warning.

    Raises:
      UserError: they are of different runs; the fields that differ are named.
    """
    _, config = catalogue.recorded(read_config(before, catalogue))
    old, new = (settings.flatten(ConfigDict(given)) for given in (config, now["config"]))
    differ = differences(before | {"config": old}, now | {"config": new})
    if differ:
        hint = ""
        if all(text.startswith("train.schedule_epochs") for text in differ):
            epochs = f"{old['train.schedule_epochs']:g}"
            hint = f" (to train longer, keep --config.train.schedule_epochs={epochs})"
        raise UserError(
            f"{workdir} holds a different run: {'; '.join(differ)}{hint}; choose another --workdir"
        )
    _warn_of_changes(before, now)


def check_saved(workdir: Path, saved: dict) -> None:
    """Checks that a checkpoint in `workdir`, with the record `saved`, is of its run.

    Raises:
      UserError: it is not; what differs is named.
    """
    stored = read_record(workdir)
    if stored is None or not saved:
        return
    old, new = (settings.flatten(ConfigDict(given["config"])) for given in (saved, stored))
    both = old.keys() & new.keys()  # the others have come with a later version
    old, new = ({name: config[name] for name in both} for config in (old, new))
    differ = differences(saved | {"config": old}, stored | {"config": new})
    if differ:
        raise UserError(
            f"the checkpoints in {workdir} are of another run than its config.json: "
            f"{'; '.join(differ)}; restore that file, or remove it: the checkpoints know their run"
        )


def differences(before: dict, now: dict) -> list[str]:
    """What differs between the runs of two records with flat configs, in words."""
    differ = _config_differences(before["config"], now["config"])
    differ += _dataset_differences(before["dataset"], now["dataset"])
    differ += [f"{name} of your own is missing" for name in before["own"] if name not in now["own"]]
    differ += [f"{name} of your own is new" for name in now["own"] if name not in before["own"]]
    return differ


def _config_differences(old: dict, new: dict) -> list[str]:
    """The fields of two flat configs that differ, but for FREE ones and a longer training."""
    if new["train.num_epochs"] > old["train.num_epochs"]:
        old = old | {"train.num_epochs": new["train.num_epochs"]}
    return [
        f"{name} {old.get(name, 'unset')!r} -> {new.get(name, 'unset')!r}"
        for name in sorted(old.keys() | new.keys())
        if not name.startswith(FREE) and old.get(name) != new.get(name)
    ]


def _dataset_differences(old: dict, new: dict) -> list[str]:
    """What differs in the data itself; its name and its place may."""
    return [
        f"dataset {name} {value!r} -> {new[name]!r}"
        for name, value in old.items()
        if name not in ("name", "source") and value != new[name]
    ]


def _warn_of_changes(before: dict, now: dict) -> None:
    """Warns where versions or devices have changed: results may then differ in their last bits."""
    for part in ("versions", "devices"):
        changed = [
            f"{name} {value} -> {now[part].get(name)}"
            for name, value in before[part].items()
            if value != now[part].get(name)
        ]
        if changed:
            logging.warning(
                "resuming with other %s (%s): the same bits are not promised",
                part,
                ", ".join(changed),
            )
