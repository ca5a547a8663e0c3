"Notebooks run from start to end as JupyterLab runs them; slow cells aside."
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = re.compile(r'^#\|\s*(slow|gpu|notest)\b', re.M)
QUICK = '00_core', '40_paper'
NAMES = sorted(p.stem for p in (ROOT/'nbs').glob('*.ipynb'))


def run(nb, folder):
    "Execute a notebook in a fresh kernel; its errors come out."
    nb.cells = [c for c in nb.cells if c.cell_type != 'code'
                or not SKIPPED.search(c.source)]
    NotebookClient(nb, timeout=900, kernel_name='python3', resources={
        'metadata': {'path': str(folder)}}).execute()


@pytest.mark.parametrize('name', [
    pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow)
    for n in NAMES])
def test_notebook_runs(name, project):
    run(nbformat.read(project/'nbs'/f'{name}.ipynb', 4), project/'nbs')


def test_a_failing_cell_is_seen(project):
    v4 = nbformat.v4
    nb = v4.new_notebook(cells=[v4.new_code_cell('#| slow\n1/0'),
                                v4.new_code_cell('assert 2 + 2 == 5')])
    with pytest.raises(CellExecutionError, match='2 \\+ 2 == 5'):
        run(nb, project/'nbs')
