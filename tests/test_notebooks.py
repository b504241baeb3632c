"""The notebooks of experiments/ run from top to bottom, and have the cells of their scripts."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
PROGRAMS = {"colab": 2, "research": 3}  # that are trained
DIGITS = 'config.data.update(name="digits", num_valid=200, num_test=300)'
SHORTER = {
    "colab": {
        "num_epochs = 10": f"num_epochs = 0.2; config.train.steps_per_call = 3; {DIGITS}",
        "latent_dim = 20": "latent_dim = 4; config.network.hidden = (16,)",
        "num_epochs = 60": "num_epochs = 0.2; config.train.steps_per_call = 3",
        "nll_samples = 100": "nll_samples = 3",
        "(1, 10, 100, 1000)": "(1, 10)",
        "(2, 8, 16)": "(2, 4)",
        "atol=1)": "atol=300)",  # of an untrained model, with few samples
    },
    "research": {
        "num_epochs = 40": "num_epochs = 0.2; config.train.steps_per_call = 3",
        "num_epochs = 150": "num_epochs = 0.2; config.train.steps_per_call = 3",
        "nll_samples = 100": "nll_samples = 3",
        "100_000": "10_000",
        "alpha = (0.0, 0.5, 0.99)": "alpha = (0.0, 0.5)",
        "(1, 2, 3, 4, 5)": "(1, 3)",
        '["nll"], table["exact"], atol=0.05': '["nll"], table["exact"], atol=5',
    },
}


def maker():
    """experiments/notebooks.py, which makes the notebooks."""
    path = EXPERIMENTS / "notebooks.py"
    spec = importlib.util.spec_from_file_location("notebooks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_notebook_has_a_shorter_version():
    assert tuple(SHORTER) == maker().NAMES
    for name, replaced in SHORTER.items():
        maker().read(name, replaced)  # fails where a text is not there
    assert {path.stem for path in EXPERIMENTS.glob("*.ipynb")} == set(SHORTER)


@pytest.mark.quick
@pytest.mark.parametrize("name", SHORTER)
def test_a_notebook_has_the_cells_of_its_script_and_small_outputs(name):
    path = EXPERIMENTS / f"{name}.ipynb"
    stored = json.loads(path.read_text())
    made = maker().read(name)
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in stored["cells"]]
    assert cells == [(cell.cell_type, cell.source) for cell in made.cells]
    assert path.stat().st_size < maker().LARGEST
    outputs = [cell.get("outputs", []) for cell in stored["cells"]]
    assert sum(map(len, outputs)) > 10
    text = json.dumps(outputs)
    assert "Traceback" not in text and "/tmp/" not in text and "/home/" not in text
    assert '"error"' not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORTER)
def test_a_notebook_runs_in_a_kernel(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = maker().read(name, SHORTER[name])
    maker().execute(notebook, tmp_path)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert all(output["output_type"] != "error" for output in shown)
    data = [output.get("data", {}) for output in shown]
    assert sum("image/png" in found for found in data) >= 2  # the curves, each once
    lines = [found for found in data if "█" in found.get("text/plain", "")]
    assert len(lines) == PROGRAMS[name]  # of progress: one for each, which changes
    assert any("<table" in found.get("text/html", "") for found in data)
