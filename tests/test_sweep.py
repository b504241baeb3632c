"""Which members a sweep has, and that every mistake in it is one clear line."""

import re
import shlex
from pathlib import Path

import pytest
from making import as_command, check, of_objective, single

from vae_jax import default, main
from vae_jax.config import sweep
from vae_jax.errors import UserError
from vae_jax.types import Field, Objective

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]


def swept(**lists):
    config = default()
    for name, values in lists.items():
        config.sweep[name] = values
    return config


def test_no_sweep_is_one_member_that_changes_nothing():
    assert sweep.members(check(default())) == [{}]


def test_every_hyper_and_every_static_field_can_be_swept():
    names = sweep.sweepable(default())
    assert {f"hypers.{name}" for name in default().hypers} <= set(names.values())
    for name, field in (
        ("network_hidden", "network.hidden"),
        ("train_batch_size", "train.batch_size"),
        ("data_seed", "data.seed"),
    ):
        assert names[name] == field
    assert not {field for field in names.values() if field.startswith(("eval.", "checkpoint."))}
    assert len(set(names)) == len(set(names.values()))


def test_the_product_varies_the_seed_fastest_and_static_fields_slowest():
    config = check(swept(seed=(0, 1), beta=(0.5, 2), network_activation=("relu", "tanh")))
    members = sweep.members(config)
    assert len(members) == 8
    assert members[:3] == [
        {"network.activation": "relu", "hypers.beta": 0.5, "hypers.seed": 0},
        {"network.activation": "relu", "hypers.beta": 0.5, "hypers.seed": 1},
        {"network.activation": "relu", "hypers.beta": 2.0, "hypers.seed": 0},
    ]
    assert sweep.by_program(members) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_zip_pairs_the_lists():
    config = swept(beta=(1, 2, 3), network_activation=("relu", "tanh", "relu"))
    config.sweep.mode = "zip"
    members = sweep.members(check(config))
    assert members == [
        {"network.activation": "relu", "hypers.beta": 1.0},
        {"network.activation": "tanh", "hypers.beta": 2.0},
        {"network.activation": "relu", "hypers.beta": 3.0},
    ]
    assert sweep.by_program(members) == [[0, 2], [1]]


def test_parts_are_few_equal_and_complete():
    assert sweep.equal_parts(list(range(10)), 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert sweep.equal_parts(list(range(10)), 10) == [list(range(10))]
    for num in range(1, 40):
        for largest in range(1, 45):
            parts = sweep.equal_parts(list(range(num)), largest)
            assert [i for part in parts for i in part] == list(range(num))
            assert max(map(len, parts)) <= largest and len(parts) == -(-num // largest)
            assert len({len(part) for part in parts[:-1]}) <= 1 and len(parts[-1]) <= len(parts[0])


def test_the_single_run_of_a_member_has_its_values_and_no_sweep():
    config = swept(beta=(0.5, 2), network_hidden=((16,), (8, 8)), train_num_epochs=(2, 3))
    config.sweep.max_members = 2
    config = check(config)
    alone = single(config, sweep.members(config)[-1])
    assert (alone.hypers.beta, alone.network.hidden) == (2.0, (8, 8))
    assert (alone.train.num_epochs, alone.train.schedule_epochs) == (
        3.0,
        3.0,
    )  # the schedule follows the member
    config.hypers.lr_final_fraction = 0.0
    assert check(config)
    assert sweep.members(alone) == [{}] and alone.sweep.max_members == 0
    zipped = swept(beta=(0.5, 2), seed=(0, 1))
    zipped.sweep.mode = "zip"
    assert "sweep" not in as_command(single(check(zipped), {"hypers.beta": 2.0}))


def test_the_command_of_a_member_is_its_single_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = swept(beta=(0.1, 2), network_hidden=((16,), (8, 8)), seed=(0, 3))
    config.data.name, config.data.path, config.data.num_test = "file", "my data.npy", 20
    config.sweep.shared_data, config.train.num_epochs, config.train.schedule_epochs = (
        False,
        50.0,
        100.0,
    )
    config.hypers.learning_rate = 1.2345678901234567e-05
    config = check(config)
    for changes in sweep.members(config):
        command = shlex.split(as_command(single(config, changes)))
        assert command[:3] == ["python3", "-m", "vae_jax.main"]
        parsed = check(main.parse(command[2:]).config)
        assert parsed.to_dict() == single(config, changes).to_dict()


def test_what_numpy_gives_can_be_swept():
    import numpy as np

    config = swept(beta=tuple(np.logspace(-1, 1, 3)), latent_dim=tuple(np.arange(2, 4)))
    assert sweep.members(check(config))[0] == {"hypers.beta": 0.1, "hypers.latent_dim": 2}


def test_parameters_of_another_run_have_one_latent_dimension():
    config = swept(latent_dim=(2, 3))
    config.train.init_from = "runs/other"
    with pytest.raises(UserError, match=r"sweep.latent_dim must be empty"):
        check(config)


def own_objective(hyper):
    objective = Objective(lambda rng, hypers: {}, lambda *_: None)
    return of_objective(objective, hypers={hyper: Field(1.0, "of one's own")})


def test_own_hypers_can_be_swept():
    parts = (own_objective("strength"),)
    config = default(parts)
    config.objective.name, config.sweep.strength = "own", (1, 2.5)
    members = sweep.members(check(config, parts))
    assert members == [{"hypers.strength": 1.0}, {"hypers.strength": 2.5}]
    with pytest.raises(UserError, match="strength"):
        check(config)
    for taken in ("data_seed", "mode"):
        with pytest.raises(UserError, match=f"names another field of the sweep: sweep.{taken}"):
            default((own_objective(taken),))


@pytest.mark.parametrize(
    ("lists", "pattern"),
    [
        ({"beta": (1.0, "high")}, r"sweep.beta: hypers.beta is 'high' \(str\), expected a number"),
        ({"beta": (1.0, -1.0)}, r"sweep.beta: hypers.beta is -1.0, expected 0 or more"),
        ({"latent_dim": (2, 2.5)}, r"sweep.latent_dim: hypers.latent_dim is 2.5 .*whole number"),
        ({"latent_dim": (0, 2)}, r"sweep.latent_dim: hypers.latent_dim is 0, expected more than 0"),
        (
            {"network_hidden": (200, 100)},
            r"network.hidden is a tuple itself: give a tuple of tuples.* \(\(200, 200\),\)",
        ),
        (
            {"network_activation": ("relu,tanh",)},
            r"'relu,tanh'; .*relu.*strings in a tuple need quotes",
        ),
        (
            {"network_activation": ("rleu",)},
            r"sweep.network_activation: network.activation is 'rleu'; did you mean relu",
        ),
        ({"beta": (1, 2, 1.0)}, r"lists the member {'hypers.beta': 1.0} more than once"),
        (
            {"mode": "zip", "beta": (1, 2, 1), "seed": (0, 0, 0)},
            r"lists the member .*more than once",
        ),
        (
            {"likelihood_name": ("bernoulli", "gaussian")},
            r"probabilities and densities cannot be ranked",
        ),
        ({"mode": "both"}, r"sweep.mode is 'both'; there are product, zip"),
        ({"max_members": -1}, r"sweep.max_members is -1, expected 0 or more"),
        (
            {"mode": "zip", "beta": (1, 2), "seed": (0, 1, 2)},
            r"'zip'.* differ in length: hypers.beta 2, hypers.seed 3",
        ),
        (
            {"beta": tuple(range(100)), "seed": tuple(range(100))},
            r"10,000 members .*more than 4,096: shorten",
        ),
        (
            {
                "lr_final_fraction": (0.1, 0.0),
                "train_num_epochs": (9,),
                "train_schedule_epochs": (5,),
            },
            r"goes beyond",
        ),
    ],
)
def test_mistakes_in_a_sweep(lists, pattern):
    with pytest.raises(UserError, match=pattern):
        check(swept(**lists))


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--config.sweep.bta=(1,2)"], r"no field 'sweep.bta'; did you mean sweep.beta"),
        (["--config.sweep.eval_seed=(1,2)"], r"no field 'sweep.eval_seed'"),
        (["--config.sweep.beta=()"], r"sweep.beta is empty: list its values"),
        (["--config.sweep.beta="], r"sweep.beta is empty: list its values"),
        (["--config.sweep.beta=(1,a)"], r"sweep.beta: hypers.beta is '\(1,a\)'"),
        (["--coordinator=localhost:1"], r"--num_processes, --process_id is missing"),
        (
            ["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"],
            r"--process_id is 2, expected less",
        ),
    ],
)
def test_mistakes_on_the_command_line(monkeypatch, capsys, tmp_path, arguments, pattern):
    monkeypatch.chdir(ROOT)
    status = main.run(
        ["main", "--config=configs/digits.py", f"--workdir={tmp_path / 'run'}", *arguments]
    )
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert status == 1
    assert re.search(pattern, line), line
    assert not (tmp_path / "run").exists()
