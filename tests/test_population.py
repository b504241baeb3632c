"""What happens to one member of a population does not touch the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from making import check, make_program

from vae_jax.data import scan
from vae_jax.parallel import population
from vae_jax.training.loop import fit
from vae_jax.training.signals import catch_signals
from vae_jax.workdir.rows import read_rows

pytestmark = pytest.mark.quick


def trained(config, members, images, workdir):
    """(program, its state at the end) of these members, dicts of the hyper-parameters in which they
    differ. Three of a width of 4 are compiled once, with those of test_sweep_run.py."""
    changes = [{f"hypers.{name}": value for name, value in member.items()} for member in members]
    many = make_program(check(config), scan.mean(images.train), 200, changes=changes)
    with catch_signals() as stop:
        workdir.mkdir()
        return many, fit(many, images, workdir, stop)


def test_grid_of_a_single_run(config):
    hypers = population.grid(check(config), [{}])
    assert population.size(hypers) == 1 and population.width(hypers) == 3
    assert hypers["seed"].dtype == hypers["latent_dim"].dtype == jnp.int32
    assert hypers["beta"].dtype == jnp.float32 and hypers["beta"].shape == (1,)


@pytest.mark.parametrize("axes", [0, (0, None, 0), (0, 0, None)])
def test_members_one_by_one_are_members_side_by_side(axes):
    def step(state, hypers, index):
        return {"x": state["x"] * hypers + index.sum(), "i": index[0]}

    given = [
        {"x": jnp.arange(6.0).reshape(3, 2)},
        jnp.arange(2.0, 5.0),
        jnp.arange(12).reshape(3, 4) ** 2,
    ]
    if axes != 0:
        given = [arg if axis == 0 else arg[1] for arg, axis in zip(given, axes, strict=True)]
    one_by_one, side_by_side = (
        jax.jit(population.lift(step, axes, way))(*given) for way in (True, False)
    )
    jax.tree.map(np.testing.assert_array_equal, one_by_one, side_by_side)


def test_a_member_that_diverges_is_frozen_and_the_others_are_untouched(config, images, tmp_path):
    config.hypers.lr_warmup_epochs, config.hypers.latent_dim = 0.0, 4
    good = [{"seed": 0}, {"seed": 1}]
    _, alone = trained(config, [*good, {"seed": 2}], images, tmp_path / "alone")
    _, beside = trained(
        config, [*good, {"seed": 2, "learning_rate": 1e20}], images, tmp_path / "beside"
    )
    assert (beside.diverged_at[:2] == -1).all() and beside.diverged_at[2] >= 0
    for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(beside.params), strict=True):
        np.testing.assert_array_equal(a[:2], b[:2])
        assert np.isfinite(b).all()
    rows = read_rows(tmp_path / "beside" / "metrics.jsonl")
    assert max(r["step"] for r in rows if r["member"] == 0) == 30
    assert max(r["step"] for r in rows if r["member"] == 2 and r["split"] == "train") < 30


def test_inactive_units_stay_at_zero_in_the_moments_and_at_their_start_in_the_parameters(
    config, images, tmp_path
):
    members = [{"latent_dim": 3}, {"latent_dim": 4}, {"latent_dim": 4, "seed": 1}]
    many, state = trained(config, members, images, tmp_path / "run")
    first = jax.jit(population.lift(many.steps.init))(many.hypers)
    mean = state.params["encoder"]["mean"]["kernel"]  # [N, Z, hidden]
    np.testing.assert_array_equal(mean[0, 3:], first.params["encoder"]["mean"]["kernel"][0, 3:])
    assert (mean[0, :3] != first.params["encoder"]["mean"]["kernel"][0, :3]).any()
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == mean.shape]
    assert len(moments) == 4  # first and second, of the heads for mean and logvar
    for moment in moments:
        assert (
            (moment[0, 3:] == 0).all() and (moment[0, :3] != 0).any() and (moment[1, 3:] != 0).any()
        )
