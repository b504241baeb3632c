import json

import pytest

from vae_jax.errors import UserError
from vae_jax.workdir.files import finite, read_json, write_json
from vae_jax.workdir.progress import Progress
from vae_jax.workdir.record import FREE
from vae_jax.workdir.rows import Rows, read_rows

pytestmark = pytest.mark.quick


def test_rows_are_cut_back_to_the_step_and_appended_to(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 3')
    rows = Rows(path, lambda row: row["step"] <= 2)
    rows.write({"step": 4, "loss": float("nan")})
    rows.flush()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 4, "loss": null}\n'


def test_a_last_line_without_its_end_does_not_count(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    assert read_rows(path) == [{"step": 1}]


def test_a_damaged_line_is_named_and_nothing_is_lost(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1}\n{"st\x00\n{"step": 3}\n')
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"rows.jsonl is damaged at line 2"):
        Rows(path, lambda row: row["step"] <= 3)
    assert path.read_bytes() == before


def test_json_is_valid_whatever_the_numbers(tmp_path):
    write_json(tmp_path / "x.json", {"a": [float("inf"), 1.0], "b": float("nan")})
    stored = json.loads((tmp_path / "x.json").read_text())
    assert stored.pop("digest") and stored == {"a": [None, 1.0], "b": None}
    assert read_json(tmp_path / "x.json") == stored
    assert finite((float("-inf"),)) == [None]


def test_no_field_of_the_trajectory_is_free():
    from vae_jax import config, default

    free = [name for name in config.flatten(default()) if name.startswith(FREE)]
    assert {name.split(".")[0] for name in free} == {"eval", "checkpoint", "data"}
    assert "data.seed" not in free and "data.binarize" not in free and "data.num_valid" not in free


def test_the_pace_is_that_since_the_first_line(monkeypatch, capsys):
    """Updates of a device that runs ahead come in pairs: the time between two says nothing."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = Progress(total=1000, start=0, examples=100)
    for step, now in ((100, 20.0), (200, 31.0), (300, 31.1)):  # noqa: B007
        progress.update(step, step / 10, [(1.0, -2.0)])
    monkeypatch.undo()
    first, second = capsys.readouterr().err.splitlines()
    assert "examples/s" not in first and first.endswith("some time left")
    assert "909 examples/s" in second  # 100 steps of 100 examples in 11 s
    assert second.endswith("00:01:28 left")  # 800 steps
