"""report.html as a reader has it: complete, self-contained, well formed, and the same in a real
browser."""

import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from making import KNOWN
from matplotlib.image import imread, imsave

import vae_jax
from vae_jax import config as settings
from vae_jax import default, main
from vae_jax.errors import UserError
from vae_jax.parts import catalogue
from vae_jax.results import captions, page
from vae_jax.types import Part
from vae_jax.workdir import files, markup

pytestmark = pytest.mark.quick

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
)
SUBSET = {
    "name": "mnist",
    "source": "embedded",
    "num_train": 4000,
    "num_valid": 500,
    "num_test": 500,
}
DATA = SUBSET | {
    "binarization": "dynamic",
    "example_shape": [28, 28, 1],
    "fingerprint": "0123456789abcdef",
}
EVIL = "<script>alert('x')</script> & \"co\""
OWN = Part("model", "own", lambda *_: None, "<b>Model of one's own</b>", provides=("a rate",))


def numbers(shift=0.0, **other):
    found = {
        "num_examples": 500,
        "elbo": -94.125 - shift,
        "distortion": 67.375 + shift,
        "rate": 26.75,
        "nll": 89.0625,
    }
    found |= {"nll_stderr": 0.234, "nll_samples": 321, "active_units": 25, "bits_per_dim": 0.16388}
    return found | {"unit_rate": [1.5, 0.0], "unit_activity": [0.75, 0.0]} | other


def member(number=0, swept=None, diverged_at=None, **other):
    hypers = {"latent_dim": 50, "beta": 1.0} | {
        k.split(".")[1]: v for k, v in (swept or {}).items()
    }
    found = {"member": number, "swept": swept or {}, "hypers": hypers, "step": 1234, "epoch": 30.85}
    found |= {"diverged_at": diverged_at, "best_step": None}
    return (
        found | {"valid": numbers(nll=89.5 + number), "test": numbers(nll=89.0625 + number)} | other
    )


def write(
    workdir, members, pictures=("samples", "curves"), data=DATA, config=None, known=KNOWN, **other
):
    """The files of a finished run, made up."""
    config = settings.check(config or known.default(), known)
    stored = {"config": config.to_dict(), "dataset": data, "own": [], "init_from": None}
    stored |= {
        "versions": {"jax": "0.10.2"},
        "devices": {"kind": "cpu", "count": 8, "cpu_threads": 2},
    }
    files.write_json(
        workdir / "config.json", stored | {k: v for k, v in other.items() if k in stored}
    )
    best = min(
        (m for m in members if m["diverged_at"] is None), key=lambda m: m["valid"]["nll"] or 0
    )["member"]
    results = {
        "dataset": data,
        "step": 1234,
        "epoch": 30.85,
        "wall_time_s": 319.4,
        "examples_per_s": 17345.6,
    }
    results |= {
        "complete": True,
        "failed": {},
        "eval": {"params": "last", "seed": 0, "nll_samples": 321},
        "best_member": best,
    }
    results |= {"best_command": "python3 -m vae_jax.main --best", "members": members}
    results["evaluation"] = []
    files.write_json(
        workdir / "results.json", results | {k: v for k, v in other.items() if k in results}
    )
    folder = workdir if len(members) == 1 else workdir / "members" / str(best)
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(pictures):
        imsave(folder / f"{name}.png", np.random.default_rng(i).uniform(size=(60, 90, 3)), dpi=200)
    return page.write(workdir, known).read_text()


def test_estimates_stand_in_a_table_of_their_own_with_their_warnings(tmp_path):
    bound = {"log_p": -88.123, "stderr": 1.5, "noise_stderr": 0.02, "effective_samples": 12.3}
    chains = {
        "ais_chains": 16,
        "ais_distributions": 1000,
        "ais_initial": "encoder",
        "acceptance": 0.25,
    }
    entry = {
        "member": 0,
        "seed": 0,
        "examples": [1, 5, 9],
        "iwae": {"bounds": [bound | {"samples": 5000}]},
    }
    entry["ais"] = bound | chains | {"warning": "the mean acceptance is 0.25"}
    reader = Reader(write(tmp_path, [member()], evaluation=[entry]))
    page = " ".join(reader.text.split())
    assert "-88.12 +- 1.50 (noise 0.02) with 5,000 samples, 12.3 effective" in page
    assert "16 chains x 1,000 distributions from the encoder; acceptance 0.25" in page
    assert "ais: the mean acceptance is 0.25" in reader.red and "bdmc" not in page
    assert "Test examples of bounds: 3, chosen by eval.seed 0" in page


@pytest.fixture
def sweep():
    swept = [
        {"hypers.beta": beta, "hypers.latent_dim": dim} for beta in (0.5, 1.0) for dim in (2, 8)
    ]
    members = [member(i, changes) for i, changes in enumerate(swept)]
    members[0] = members[0] | {"valid": numbers(nll=95.25)}
    members[3] |= {"diverged_at": 77}
    return members


class Reader(html.parser.HTMLParser):
    """The elements of a page, checked for balance, and its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text, self.red = [], [], "", ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in markup.VOID:
            self.open.append((name, dict(attributes).get("class")))

    def handle_endtag(self, name):
        assert self.open and self.open[-1][0] == name, f"</{name}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1][0] not in ("style", "script"):
            self.text += data + " "
            self.red += f"{data} " if any(kind == "alarm" for _, kind in self.open) else ""


def assert_self_contained(reader):
    for name, attributes in reader.elements:
        assert name not in ("link", "iframe", "object", "embed", "base", "a")
        for key in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(key, "data:").startswith("data:"), (name, key)


def test_a_page_of_a_run_is_whole_and_needs_nothing(tmp_path):
    text = write(
        tmp_path, [member()], pictures=[name.removesuffix(".png") for name in captions.MEMBER]
    )
    assert not re.findall(r"https?://|@import|url\(", text)
    reader = Reader(text)
    assert_self_contained(reader)
    pictures = [attributes for name, attributes in reader.elements if name == "img"]
    assert len(pictures) == len(captions.MEMBER) and all(picture["alt"] for picture in pictures)
    assert (
        pictures[0]["width"] == "45" and pictures[0]["height"] == "30"
    )  # 200 dots per inch, two to a pixel
    policy = next(
        a["content"]
        for name, a in reader.elements
        if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    for needed in (
        "4,000 train",
        "500 valid",
        "500 test",
        "28 × 28 × 1",
        "binarization dynamic",
        "5 min 19 s",
    ):
        assert needed in reader.text
    for needed in (
        "Epoch 30.85, 1,234 steps",
        "17,346 examples/s",
        "jax 0.10.2; 8 × cpu",
        "0123456789abcdef",
    ):
        assert needed in reader.text
    assert "python3 -m vae_jax.main --config=configs/mnist.py" in reader.text


def test_what_was_done_to_the_images_is_said(tmp_path):
    text = Reader(write(tmp_path, [member()], data=DATA | {"preparation": "cropped to <64>"})).text
    assert "of 28 × 28 × 1 values, cropped to <64>; binarization" in text


def leaves(value):
    if isinstance(value, dict | list):
        return [
            leaf
            for part in (value.values() if isinstance(value, dict) else value)
            for leaf in leaves(part)
        ]
    return [value]


def test_every_number_of_the_results_is_there(tmp_path):
    reader = Reader(write(tmp_path, [member()]))
    for found in leaves(json.loads((tmp_path / "results.json").read_text())):
        if isinstance(found, float):
            assert str(found) in reader.text
    shown = reader.text.split("To reproduce it")[0]
    for split in (member()["valid"], member()["test"]):
        texts = [
            f"{split['nll']:.2f}  ± 0.23",
            f"{split['elbo']:.2f}",
            "67.38",
            "26.75",
            "0.1639",
            "25",
            "500",
        ]
        assert all(text in shown for text in texts)
    assert (
        "321 importance samples" in shown
        and "Parameters: last" in shown
        and "active of 50 units" in shown
    )


def test_a_subset_is_called_one_in_red(tmp_path):
    reader = Reader(write(tmp_path, [member()]))
    assert (
        "5,000 training digits of MNIST, a SUBSET" in reader.red
        and "no number here is MNIST's" in reader.red
    )
    whole = Reader(write(tmp_path, [member()], data=DATA | {"source": "official"}))
    assert not whole.red and "mnist (official)" in whole.text


def write_own(workdir):
    """The files of a run with a model and a dataset of one's own."""
    known = catalogue((OWN,))
    config = known.default()
    config.model.name, data = "own", DATA | {"name": EVIL}
    own = ["model:own", "dataset"]
    return write(workdir, [member()], data=data, config=config, known=known, own=own)


def test_names_are_escaped(tmp_path):
    text = write_own(tmp_path)
    assert "<script>alert" not in text and EVIL in Reader(text).text
    assert "<b>Model" not in text and OWN.words in Reader(text).text
    told = "The model own and the dataset came as Python objects, so no command repeats this run."
    assert told in Reader(text).text


def test_what_a_plain_autoencoder_does_not_have_is_left_out(tmp_path):
    config = default()
    config.model.name = "ae"
    nothing = dict.fromkeys(
        (
            "elbo",
            "rate",
            "nll",
            "nll_stderr",
            "active_units",
            "bits_per_dim",
            "unit_rate",
            "unit_activity",
        )
    )
    found = numbers(**nothing) | {"mse": 0.012345}
    reader = Reader(write(tmp_path, [member(valid=found, test=found)], config=config))
    shown = reader.text.split("To reproduce it")[0]
    assert "None" not in shown and "ELBO" not in shown.split("Training.")[0] and "0.01235" in shown
    assert "decoded draws from a Gaussian fitted to the training codes" in shown
    assert "Autoencoder on " in shown


def test_a_sweep_is_ranked_by_validation_and_names_the_diverged(tmp_path, sweep):
    for name in ("heat_maps.png", "strips.png"):
        imsave(tmp_path / name, np.zeros((4, 4, 3)))
    text = write(tmp_path, sweep)
    reader = Reader(text)
    assert_self_contained(reader)
    assert (
        "Sweep of 4 models on" in reader.text
        and "The best: member 1 (beta 0.5, latent_dim 8)" in reader.text
    )
    rows = re.findall(r"<tr[^>]*><td data-value=\"(\d)\"", text)
    assert rows == ["1", "2", "0", "3"]  # 90.5, 91.5, 95.25, diverged
    assert "Diverged: member 3 (beta 1, latent_dim 8) at step 77." in reader.red
    assert (
        len([name for name, _ in reader.elements if name == "img"]) == 4
    )  # two of the sweep, two of the best
    for needed in (
        "90.06  ± 0.23",
        "91.06  ± 0.23",
        "89.06  ± 0.23",
        "python3 -m vae_jax.main --best",
    ):
        assert needed in reader.text
    assert "unit_rate" not in text and text.count("<script>") == 1


def test_many_diverged_members_are_counted(tmp_path, sweep):
    lost = [member(i, {"hypers.beta": float(i)}, diverged_at=5) for i in range(4, 10)]
    members = [m | {"swept": {"hypers.beta": m["member"] + 0.0}} for m in sweep]
    assert (
        "Diverged: 7 members: 3, 4, 5, 6, 7, 8, 9."
        in Reader(write(tmp_path, [*members, *lost])).red
    )


def test_the_same_files_give_the_same_page_and_unfinished_training_is_said(tmp_path):
    assert write(tmp_path, [member()]) == write(tmp_path, [member()])
    assert "Training is not complete" in Reader(write(tmp_path, [member()], complete=False)).red
    with pytest.raises(UserError, match="no results to report on"):
        page.write(tmp_path / "nothing", KNOWN)


def test_a_command_makes_it_anew(tmp_path, capsys):
    text = write(tmp_path, [member()])
    (tmp_path / "report.html").unlink()
    assert main.run(["main", "--mode=report", f"--workdir={tmp_path}"]) == 0
    assert (tmp_path / "report.html").read_text() == text
    assert main.run(["main", "--mode=report", f"--workdir={tmp_path / 'nothing'}"]) == 1
    assert "no results to report on" in capsys.readouterr().err


def test_python_makes_it_anew(tmp_path):
    text = write(tmp_path, [member()])
    (tmp_path / "report.html").unlink()
    assert vae_jax.report(str(tmp_path)) == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_text() == text
    with pytest.raises(UserError, match="nothing has no results to report on yet; train first"):
        vae_jax.report(tmp_path / "nothing")


def test_python_makes_that_of_parts_of_ones_own_anew(tmp_path):
    text = write_own(tmp_path)
    with pytest.raises(UserError, match=r"the model 'own' of .* is one of your own: .*in parts="):
        vae_jax.report(tmp_path)
    assert vae_jax.report(tmp_path, parts=(OWN,)).read_text() == text


def test_lists_of_numbers_stay_on_one_line():
    value = {
        "a": [1.5, None, 2],
        "b": [{"c": [3, 4]}],
        "d": [[1, 2], [3]],
        "e": ["x ] [ y", "p\nq"],
        "f": [],
    }
    text = files.pretty(value)
    assert json.loads(text) == value
    assert '"a": [1.5, null, 2]' in text and '"c": [3, 4]' in text and "    [1, 2]," in text


# What a browser makes of a page: it says so in its title, which --dump-dom prints.
PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  const images = [...document.images], root = document.documentElement;
  const table = document.querySelector("table.sortable");
  const order = () => [...table.tBodies[0].rows].map(
    row => row.cells[0].textContent).join("");
  const click = () => { table.querySelector("button").click(); return order(); };
  document.title = JSON.stringify({images: images.length,
    decoded: images.filter(i => i.naturalWidth > 0).length,
    wide: root.scrollWidth > innerWidth, sorted: table ? [order(), click(), click()] : [],
    loaded: performance.getEntriesByType("resource").map(entry => entry.name)
      .filter(name => !name.startsWith("data:")),
    paper: getComputedStyle(document.body).backgroundColor});
}, 50));
</script></body>"""


def browse(tmp_path, text, width=1000, probe=PROBE):
    """(what the page says of itself, the browser's console, a screenshot [H, W, 3]) of a page,
    without a network."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(
            f"needs a browser on PATH: one of {', '.join(BROWSERS)} (Debian: apt-get install "
            "chromium)"
        )
    file, shot, net = tmp_path / "probe.html", tmp_path / "shot.png", tmp_path / "net.json"
    file.write_text(text.replace("</body>", probe or "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += [
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
    ]
    options += [
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},1400",
        "--virtual-time-budget=4000",
    ]
    options += [
        "--enable-logging=stderr",
        "--v=0",
        f"--log-net-log={net}",
        "--dump-dom",
        f"--screenshot={shot}",
    ]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND"]  # the browser itself would ask for updates
    done = subprocess.run(
        [browser, *options, file.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert found, f"the page did not finish: {done.stdout[:300]} {done.stderr[-1500:]}"
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    asked = {
        "asked": net.read_text().count('"initiator":"null"')
    }  # requests of a page that is a file
    return json.loads(html.unescape(found[1])) | asked, console, imread(shot)[..., :3]


@pytest.mark.slow  # needs a browser
def test_a_browser_shows_a_run(tmp_path):
    text = write(tmp_path, [member()], pictures=["samples", "curves", "latents"])
    says, console, shot = browse(tmp_path, text)
    assert not console and says["images"] == says["decoded"] == 3 and not says["wide"]
    assert not says["loaded"] and not says["asked"]
    assert (
        len(np.unique((shot * 255).astype(int).reshape(-1, 3), axis=0)) > 1000
    )  # text, and pictures of noise
    red = (shot[..., 0] > 0.7) & (shot[..., 1:].max(-1) < 0.3)
    assert red[:400].sum() > 300  # the name of a subset
    assert np.mean((shot == 1).all(-1)) > 0.3  # paper


@pytest.mark.slow  # needs a browser
def test_a_browser_sorts_the_members_of_a_sweep_also_on_a_narrow_screen(tmp_path, sweep):
    says, console, _ = browse(tmp_path, write(tmp_path, sweep), width=500)
    assert not console and says["images"] == says["decoded"] == 2 and not says["wide"]
    assert says["sorted"] == ["1203", "0123", "3210"]


@pytest.mark.slow  # needs a browser
@pytest.mark.parametrize("policy", [True, False])
def test_a_broken_page_is_noticed(tmp_path, policy):
    text = write(tmp_path, [member()]).replace(
        "<main>", '<main><img src="data:image/png;base64,AAAA">'
    )
    text = text.replace(
        "</main>", '<img src="http://127.0.0.1:9/x.png"></main><script>undefined_name()</script>'
    )
    if not policy:
        text = text.replace(markup.render(markup.POLICY), "default-src * data: 'unsafe-inline'")
    says, console, _ = browse(tmp_path, text)
    assert says["decoded"] == says["images"] - 2
    assert any("undefined_name" in line for line in console)
    assert (
        any("Content Security Policy" in line for line in console) == policy != bool(says["asked"])
    )
