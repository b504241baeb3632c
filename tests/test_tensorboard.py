import json
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

import vae_jax
from vae_jax.errors import UserError
from vae_jax.results import finish
from vae_jax.workdir.rows import read_rows


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """Instead of pictures that take seconds, one of 5 x 4 pixels; of a sweep, one of a member
    beside it."""

    def draw(self, members, *_):
        Image.new("RGB", (5, 4)).save(self.workdir / "samples.png")
        if len(members) > 1:
            (self.workdir / "members" / "1").mkdir(parents=True, exist_ok=True)
            Image.new("L", (3, 2)).save(self.workdir / "members" / "1" / "curves.png")

    monkeypatch.setattr(finish.Outcome, "_draw", draw)


@pytest.fixture
def config(config):
    config.eval.tensorboard, config.train.num_epochs = True, 1.0
    config.train.schedule_epochs = 3.0
    return config


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return events.Reload()


def written(workdir, member):
    """What metrics.jsonl says of a member: {tag: [(step, value)]}."""
    found = {}
    for row in read_rows(workdir / "metrics.jsonl"):
        for name in row.keys() - {"step", "split", "member"}:
            if row["member"] == member and row[name] is not None:
                found.setdefault(f"{row['split']}/{name}", []).append((row["step"], row[name]))
    return found


def assert_the_same(workdir, member=0, folder=""):
    """Every number once, as in metrics.jsonl, and no file with others."""
    events, rows = read(workdir / "tensorboard" / folder), written(workdir, member)
    assert set(events.Tags()["scalars"]) == set(rows) and rows
    for tag, points in rows.items():
        found = events.Scalars(tag)
        assert [event.step for event in found] == [step for step, _ in points], tag
        np.testing.assert_allclose(
            [event.value for event in found], [value for _, value in points], rtol=1e-6
        )
        times = [event.wall_time for event in found]
        assert times == sorted(times)
    assert len(list((workdir / "tensorboard" / folder).glob("*.scalars"))) == 1
    return events


def test_a_run_its_resumption_and_its_pictures(config, images, tmp_path):
    vae_jax.train(config, tmp_path, dataset=images)
    events = assert_the_same(tmp_path)
    assert {"train/loss", "train/elbo", "valid/elbo", "train/epoch"} <= set(
        events.Tags()["scalars"]
    )
    (image,) = events.Images("samples")
    assert (image.step, image.width, image.height) == (10, 5, 4)
    assert image.encoded_image_string == (tmp_path / "samples.png").read_bytes()
    (text,) = events.Tensors("config")
    text = text.tensor_proto.string_val[0].decode()
    assert "likelihood.name = 'bernoulli'" in text and "hypers.latent_dim = 3" in text

    # As after SIGKILL: rows of steps that no checkpoint holds, and an event file that has them or
    # has lost some.
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    beyond = json.loads(rows[-1]) | {"step": 13}
    (tmp_path / "metrics.jsonl").write_text("\n".join([*rows, json.dumps(beyond), '{"torn']))
    (old,) = (tmp_path / "tensorboard").glob("*.scalars")
    old.write_bytes(old.read_bytes()[:-40])
    config.train.num_epochs = 2.0
    new = []
    vae_jax.train(config, tmp_path, dataset=images, on_row=new.append)
    assert new == read_rows(tmp_path / "metrics.jsonl")[len(rows) :] and len(new) > 2
    events = assert_the_same(tmp_path)
    assert events.Scalars("train/loss")[-1].step == 20
    assert 13 not in [event.step for event in events.Scalars("valid/elbo")]
    assert [image.step for image in events.Images("samples")] == [20]
    assert not old.exists()

    vae_jax.evaluate(tmp_path, dataset=images)
    assert [image.step for image in assert_the_same(tmp_path).Images("samples")] == [20]


@pytest.mark.quick
def test_a_sweep_in_parts_has_a_run_for_each_member(config, images, tmp_path):
    config.sweep.beta, config.sweep.max_members = (0.5, 2.0), 1
    vae_jax.train(config, tmp_path, dataset=images)
    assert {path.name for path in (tmp_path / "tensorboard").iterdir() if path.is_dir()} == {
        "0",
        "1",
    }
    results = json.loads((tmp_path / "results.json").read_text())
    for member in range(2):
        swept = results["members"][member]["swept"]
        events = assert_the_same(tmp_path, member, str(member))
        text = events.Tensors("config")[0].tensor_proto.string_val[0].decode()
        assert (
            all(f"    {name} = {value!r}" in text for name, value in swept.items())
            and "sweep." not in text
        )
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        hparams = parse_session_start_info_plugin_data(content).hparams
        assert hparams["hypers.beta"].number_value == swept["hypers.beta"]
        assert hparams["hypers.latent_dim"].number_value == 3
    assert read(tmp_path / "tensorboard" / "1").Images("curves")[0].width == 3
    (whole,) = (tmp_path / "tensorboard").glob("*.pictures")
    tags = [
        value.tag for event in EventFileLoader(str(whole)).Load() for value in event.summary.value
    ]
    assert tags == ["samples"]


def test_it_may_be_switched_on_when_a_run_goes_on_or_is_evaluated(config, images, tmp_path):
    config.eval.tensorboard = False
    vae_jax.train(config, tmp_path, dataset=images)
    assert not (tmp_path / "tensorboard").exists()
    config.eval.tensorboard = True
    vae_jax.evaluate(tmp_path, config, dataset=images)
    assert_the_same(tmp_path)
    config.train.num_epochs = 2.0
    vae_jax.train(config, tmp_path, dataset=images)
    assert assert_the_same(tmp_path).Scalars("valid/elbo")[-1].step == 20


def test_a_missing_package_is_said_before_training_begins(config, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(
        UserError, match=r"eval.tensorboard needs the package tensorboard.*pip install tensorboard"
    ):
        vae_jax.train(config, tmp_path / "run", dataset=images)
    assert not (tmp_path / "run").exists()
    config.eval.tensorboard = False
    vae_jax.train(config, tmp_path / "run", dataset=images)


def test_tensorflow_is_not_imported():
    assert "tensorflow" not in sys.modules  # by what the tests above have written
