"""Makes the notebooks from their scripts, with their outputs.

    python3 -m pip install -e ".[notebook]" && python3 experiments/notebooks.py

experiments/colab.py and experiments/research.py are the source, in jupytext's percent format; the
notebooks are executed in an empty folder from top to bottom. Sliders are left out of the outputs:
without a kernel they show nothing.
"""

import argparse
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NAMES = ("colab", "research")
WIDGET = "application/vnd.jupyter.widget-view+json"
LARGEST = 400_000  # bytes of a notebook


def read(name: str, replaced: dict[str, str] | None = None):
    """The notebook of a script, without outputs.

    Args:
      replaced: {text: text} in the script, to make it shorter; all of them must be there.
    """
    script = (HERE / f"{name}.py").read_text()
    for old, new in (replaced or {}).items():
        if old not in script:
            raise ValueError(f"{name}.py has no {old!r}")
        script = script.replace(old, new)
    notebook = jupytext.reads(script, "py:percent")
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
        cell.metadata = {}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel})
    return notebook


def execute(notebook, folder: Path) -> None:
    """Runs all cells in a folder, and keeps their outputs."""
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=3600, resources=resources, store_widget_state=False)
    client.execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
    notebook.metadata.pop("language_info", None)  # the version of Python, which may be any


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; by default all")
    for name in parser.parse_args().names or NAMES:
        begin, notebook = time.monotonic(), read(name)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, Path(folder))
        text = nbformat.writes(notebook) + "\n"
        for private in (folder, str(Path.home()), str(HERE.parent.absolute())):
            if private in text:
                raise SystemExit(f"{name}: the outputs have a path of this machine: {private}")
        (HERE / f"{name}.ipynb").write_text(text)
        if len(text) > LARGEST:
            raise SystemExit(f"{name}.ipynb: {len(text):,} bytes are too many")
        print(f"{name}.ipynb: {len(text):,} bytes, {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
