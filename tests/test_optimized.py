"""What the other tests show of programs compiled in haste holds of programs compiled as users
compile them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLAIMS = [
    "test_step.py::test_a_compiled_step_is_the_step",
    "test_train.py::test_stopping_and_resuming_changes_no_bit[3]",
    "test_train.py::test_streamed_data_gives_the_same_bits_as_resident",
    "test_sweep_run.py::test_a_member_is_its_single_run",
    "test_sweep_run.py::test_stopping_in_any_part_and_resuming_changes_no_bit[7]",
]


@pytest.mark.slow
def test_with_all_optimizations(tmp_path):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    }
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=3"  # XLA's own default
    tests = [str(HERE / claim) for claim in CLAIMS]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-m",
        "",
        f"--basetemp={tmp_path / 'tests'}",
        *tests,
    ]
    done = subprocess.run(command, cwd=HERE.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(CLAIMS)} passed" in done.stdout, (
        done.stdout + done.stderr
    )
