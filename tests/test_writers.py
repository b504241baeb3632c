import json

import pytest

from vae_jax.errors import UserError
from vae_jax.workdir.files import finite, write_json
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
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.0], "b": None}
    assert finite((float("-inf"),)) == [None]


def test_no_field_of_the_trajectory_is_free():
    from vae_jax import config, default

    free = [name for name in config.flatten(default()) if name.startswith(FREE)]
    assert {name.split(".")[0] for name in free} == {"eval", "checkpoint", "data"}
    assert "data.seed" not in free and "data.binarize" not in free and "data.num_valid" not in free
