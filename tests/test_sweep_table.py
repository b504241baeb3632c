import math

import numpy as np
import pytest

from vae_jax.errors import UserError
from vae_jax.plots import pivot
from vae_jax.results import sweep_table as table
from vae_jax.workdir import ranking

pytestmark = pytest.mark.quick


def member(number, nll, diverged_at=None, elbo=-100.0, **swept):
    """A member whose test NLL is `nll`, and whose validation NLL is 1 lower."""
    sections = {"hidden": "network", "name": "network"}
    swept = {f"{sections.get(name, 'hypers')}.{name}": x for name, x in swept.items()}
    numbers = {
        "num_examples": 10,
        "elbo": elbo,
        "distortion": 80.5,
        "rate": 19.5,
        "nll": nll,
        "nll_stderr": 0.25,
    }
    numbers |= {"nll_samples": 100, "mse": 0.5, "active_units": 4, "bits_per_dim": None}
    valid = numbers | {"nll": None if nll is None else nll - 1}
    return {"member": number, "swept": swept, "diverged_at": diverged_at, "best_step": None} | {
        "valid": valid,
        "test": numbers,
    }


def grid():
    """Beta (4, 0.5) x latent_dim (8, 2) x seed (0, 1): member 3 is the best, 6 diverged, 7 is
    alone in its cell."""
    settings = [(b, z, seed) for b in (4.0, 0.5) for z in (8, 2) for seed in (0, 1)]
    nlls = (100.0, 102.0, 91.0, 90.0, 110.0, 114.0, 1.0, 95.5)
    return [
        member(i, nll, 120 if i == 6 else None, beta=b, latent_dim=z, seed=s)
        for i, (nll, (b, z, s)) in enumerate(zip(nlls, settings, strict=True))
    ]


def swept(**fields):
    return [member(0, 1.0, **fields)]


def test_axes_are_latent_dim_by_beta_and_never_the_seed_of_a_larger_sweep():
    assert pivot.axes(grid()) == (["hypers.latent_dim", "hypers.beta"], ["hypers.seed"])
    assert pivot.axes(swept(seed=1)) == (["hypers.seed"], [])
    assert pivot.axes(swept(seed=1, beta=1.0)) == (["hypers.beta"], ["hypers.seed"])
    assert pivot.axes(swept(latent_dim=2)) == (["hypers.latent_dim"], [])
    assert pivot.axes(swept(latent_dim=2, learning_rate=0.1)) == (
        ["hypers.latent_dim", "hypers.learning_rate"],
        [],
    )
    assert pivot.axes(swept(learning_rate=0.1, seed=0, hidden=[2], beta=1.0, latent_dim=2)) == (
        ["hypers.latent_dim", "hypers.beta"],
        ["hypers.learning_rate", "hypers.seed", "network.hidden"],
    )
    assert pivot.axes(swept(learning_rate=0.1, free_bits=0.0, hidden=[2])) == (
        ["hypers.free_bits", "hypers.learning_rate"],
        ["network.hidden"],
    )
    assert pivot.axes(swept()) == ([], [])


def test_cells_are_means_and_sample_deviations_without_the_diverged():
    cells = pivot.cells(grid(), "test", "nll")
    assert (cells.row, cells.column) == ("hypers.latent_dim", "hypers.beta")
    assert (cells.rows, cells.columns) == ([2, 8], [0.5, 4.0])
    np.testing.assert_allclose(cells.mean, [[95.5, 90.5], [112.0, 101.0]])
    np.testing.assert_allclose(
        cells.sd, [[math.nan, math.sqrt(0.5)], [math.sqrt(8.0), math.sqrt(2.0)]]
    )
    assert cells.count.tolist() == [[1, 2], [2, 2]] and cells.diverged.tolist() == [[1, 0], [0, 0]]
    assert cells.index(grid()[3]) == (0, 1)
    assert pivot.cells(grid(), "valid", "nll").mean[0, 0] == 94.5


def test_cells_of_a_zip_sweep_of_words_of_tuples_and_of_missing_numbers():
    zipped = [member(0, 5.0, beta=1.0, latent_dim=2), member(1, 3.0, beta=2.0, latent_dim=8)]
    cells = pivot.cells(zipped, "test", "nll")
    np.testing.assert_array_equal(cells.mean, [[5.0, math.nan], [math.nan, 3.0]])
    assert cells.count.tolist() == [[1, 0], [0, 1]]
    networks = (("mlp", [9, 9]), ("conv", [4]))
    words = [member(i, float(i), name=n, hidden=h) for i, (n, h) in enumerate(networks)]
    cells = pivot.cells(words, "test", "nll")
    assert cells.columns == ["mlp", "conv"] and cells.rows == [(9, 9), (4,)]
    cells = pivot.cells([member(0, None, beta=1.0), member(1, 3.0, beta=1.0)], "test", "nll")
    assert (
        cells.mean.tolist() == [[3.0]] and cells.count.tolist() == [[1]] and cells.columns == [None]
    )


def test_the_best_is_chosen_by_validation_among_those_that_finished():
    assert ranking.best(grid()) == 3
    members = grid()
    members[0]["valid"]["nll"] = 50.0
    assert ranking.best(members) == 0, "test numbers do not choose"
    members[5]["valid"]["nll"] = 50.0
    assert ranking.best(members) == 0, "the first of equals"
    elbos = [
        member(i + 10, None, elbo=elbo, beta=float(i)) for i, elbo in enumerate((-9.0, -7.0, -8.0))
    ]
    assert ranking.best(elbos) == 11
    assert ranking.best(grid(), "elbo") == 0
    assert ranking.best([member(0, 1.0, diverged_at=3, beta=1.0)]) is None
    autoencoders = [member(i, None, elbo=None, beta=float(i)) for i in range(3)]
    for each, distortion in zip(autoencoders, (7.0, 5.0, 6.0), strict=True):
        each["valid"]["distortion"] = distortion
    assert ranking.best(autoencoders) == 1
    autoencoders[1]["valid"]["distortion"] = autoencoders[2]["valid"]["distortion"] = None
    assert ranking.best(autoencoders) == 0 and ranking.best(autoencoders[1:]) is None


def test_labels():
    assert ranking.label(grid()[0]) == "beta 4, latent_dim 8, seed 0"
    assert (
        ranking.label(swept(learning_rate=3e-4, hidden=[200, 200])[0])
        == "learning_rate 0.0003, network.hidden (200, 200)"
    )
    assert ranking.label(swept(beta=float(np.float32(0.1)))[0]) == "beta 0.1"


def test_csv_holds_every_member_and_every_digit(tmp_path):
    path = tmp_path / "sweep.csv"
    members = [
        member(1, 1 / 3, beta=0.1, hidden=[200, 200]),
        member(0, None, 7, beta=1.0, hidden=[5]),
    ]
    members[1]["best_step"], members[1]["valid"] = 4, None
    table.write_csv(path, members)
    scores = (
        "num_examples",
        "elbo",
        "distortion",
        "rate",
        "nll",
        "nll_stderr",
        "nll_samples",
        "mse",
        "active_units",
    )
    names = [f"{split}_{name}" for split in ("valid", "test") for name in (*scores, "bits_per_dim")]
    assert path.read_text() == (
        f"member,hypers.beta,network.hidden,diverged_at,best_step,{','.join(names)}\n"
        f'1,0.1,"(200, 200)",,,10,-100.0,80.5,19.5,{1 / 3 - 1!r},0.25,100,0.5,4,,'
        f"10,-100.0,80.5,19.5,{1 / 3!r},0.25,100,0.5,4,\n"
        '0,1.0,"(5,)",7,4,,,,,,,,,,,10,-100.0,80.5,19.5,,0.25,100,0.5,4,\n'
    )
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.csv"]


def test_csv_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "sweep.csv"
    path.write_text("old")

    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_text", full)
    with pytest.raises(UserError, match=r"cannot write .*sweep.csv: No space left"):
        table.write_csv(path, grid())
    assert path.read_text() == "old"


def test_text_of_a_grid():
    assert table.text(grid()).split("\n") == [
        "test NLL in nats (lower is better), mean ± sd over seed, number of members in brackets",
        "latent_dim \\ beta                0.5                   4",
        "                2          95.50 (1)    90.50 ± 0.71 (2)*",
        "                8  112.00 ± 2.83 (2)   101.00 ± 1.41 (2)",
        "* best by validation NLL: member 3 (beta 4, latent_dim 2, seed 1), "
        "valid 89.00, test 90.00 ± 0.25 over examples",
        "  next: member 2 (beta 4, latent_dim 2, seed 0), valid +1.00",
        "member 6 (beta 0.5, latent_dim 2, seed 0) diverged at step 120",
    ]


def test_text_of_one_axis_lists_the_metrics():
    lines = table.text(
        [member(0, 95.25, beta=1.0), member(1, 97.5, beta=4.0), member(2, 1.0, 9, beta=8.0)]
    ).split("\n")
    assert lines[:5] == [
        "test, in nats, one member per cell",
        "beta       NLL       ELBO   distortion       rate   active units",
        "   1     95.25*   -100.00        80.50      19.50              4",
        "   4     97.50    -100.00        80.50      19.50              4",
        "   8  diverged   diverged     diverged   diverged       diverged",
    ]
    assert lines[-1] == "member 2 (beta 8) diverged at step 9"


def test_text_says_how_much_seeds_differ():
    lines = table.text([member(i, nll, seed=i) for i, nll in enumerate((95.0, 96.0, 97.0))]).split(
        "\n"
    )
    assert lines[5].split()[:6] == ["mean", "±", "sd", "96.00", "±", "1.00"]


def test_text_says_what_is_averaged_and_names_all_diverged():
    settings = [
        (b, z, r, s) for b in (1.0, 2.0) for z in (2, 4) for r in (0.1, 0.2) for s in (0, 1)
    ]
    members = [
        member(i, 90.0 + i, beta=b, latent_dim=z, learning_rate=r, seed=s)
        for i, (b, z, r, s) in enumerate(settings)
    ]
    assert "mean ± sd over learning_rate, seed, 4 members per cell" in table.text(members)
    lost = table.text([m | {"diverged_at": 5} for m in members])
    assert lost.count("diverged at step 5") == 16 and "best" not in lost
    assert "member 15 (beta 2, latent_dim 4, learning_rate 0.2, seed 1) diverged at step 5" in lost


def test_text_shows_the_elbo_where_there_is_no_nll():
    members = [
        member(i, None, elbo=-90.0 - i, beta=float(i % 2), latent_dim=i // 2) for i in range(4)
    ]
    lines = table.text(members).split("\n")
    assert lines[0] == "test ELBO in nats (higher is better), one member per cell"
    assert lines[2].split() == ["0", "-90.00*", "-91.00"]


def test_wide_tables_go_on_below_and_scattered_settings_become_a_list():
    wide = [member(i, 90.0 + i, beta=float(i % 40), latent_dim=i // 40) for i in range(80)]
    lines = table.text(wide).split("\n")
    assert (
        max(map(len, lines[:-2])) <= 110
        and sum(line.startswith("latent_dim") for line in lines) == 4
    )
    shown = [float(x.rstrip("*")) for line in lines[1:-2] for x in line.split()[1:] if ".00" in x]
    assert sorted(shown) == [90.0 + i for i in range(80)]
    scattered = [member(i, 90.0 - i, beta=float(i), latent_dim=i) for i in range(50)]
    lines = table.text(scattered).split("\n")
    assert lines[2].split()[:5] == ["beta", "49,", "latent_dim", "49", "41.00*"]
    assert lines[22] == "and 30 more in sweep.csv"
