"""`make notebooks`: runs every notebook's .py in a kernel and writes the .ipynb beside it, outputs and all.

    python -m tests.notebooks.write_outputs [01 04 …]

Times and ids that change from run to run are left out, so that a rerun that changes no result changes no file.
"""

import hashlib
import sys
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[2] / "notebooks"
_LONGEST_CELL_S = 600


def main(wanted: list[str]) -> None:
    """Write the outputs of the notebooks whose numbers are given, or of all."""
    for source in sorted(FOLDER.glob("[0-9]*.py")):
        if wanted and source.name[:2] not in wanted:
            continue
        started = time.monotonic()
        notebook = jupytext.read(source)
        client = NotebookClient(
            notebook,
            timeout=_LONGEST_CELL_S,
            record_timing=False,
            resources={"metadata": {"path": str(FOLDER)}},
        )
        client.execute()
        jupytext.write(steady(notebook), source.with_suffix(".ipynb"))
        print(f"{source.stem}: {time.monotonic() - started:.0f} s")


def steady(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook without what changes from run to run."""
    for place, cell in enumerate(notebook.cells):
        cell["id"] = hashlib.sha256(f"{place}/{cell.source}".encode()).hexdigest()[:8]
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)
    return notebook


if __name__ == "__main__":
    main(sys.argv[1:])
