"""Output in a notebook: one output of a cell whose content is replaced."""

import sys
from typing import Any


def is_running() -> bool:
    """Whether this is the kernel of a notebook, which shows more than text."""
    ipython = sys.modules.get("IPython")  # whoever runs in it has imported it
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


class Output:
    """One output of a notebook cell."""

    def __init__(self):
        self.handle: Any = None

    def show(self, shown) -> None:
        """Shows an object in place of what was shown before."""
        from IPython.display import display

        if self.handle is None:
            self.handle = display(shown, display_id=True)
        else:
            self.handle.update(shown)


class Line:
    """Text that a notebook shows in one line."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text
