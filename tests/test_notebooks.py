"""Notebooks run from start to end as JupyterLab runs them; slow cells aside.

Afterwards the project is as it was, and so is the user's home.
"""
import os
import re
from hashlib import sha256
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = re.compile(r'^#\|\s*(slow|gpu|notest)\b', re.M)
PAPER = '5_results/03_beside_the_paper'
QUICK = 'appendix_a_support/01_files', PAPER
NAMES = sorted(p.relative_to(ROOT/'nbs').with_suffix('').as_posix()
               for p in (ROOT/'nbs').glob('**/*.ipynb'))


def run(nb, folder, **env):
    "Execute a notebook in a fresh kernel; its errors come out."
    nb.cells = [c for c in nb.cells if c.cell_type != 'code'
                or not SKIPPED.search(c.source)]
    NotebookClient(nb, timeout=900, kernel_name='python3').execute(
        cwd=str(folder), env=os.environ | env)


def files(folder):
    "What is in a folder, but what Python itself leaves there."
    return {p.relative_to(folder).as_posix(): sha256(p.read_bytes()).digest()
            for p in folder.rglob('*') if p.is_file()
            and not {'__pycache__', '.ipynb_checkpoints'} & {*p.parts}}


@pytest.fixture(scope='session')
def caches(tmp_path_factory):
    "What libraries work out once (fonts, compiled code), for all kernels."
    to = tmp_path_factory.mktemp('caches')
    return {k: str(to/k) for k in ('MPLCONFIGDIR', 'XDG_CACHE_HOME',
                                   'NUMBA_CACHE_DIR')}


@pytest.fixture
def home(tmp_path, caches):
    "Variables that give a kernel a home of its own; libraries' caches aside."
    for name in ('home', 'aside'): (tmp_path/name).mkdir()
    aside = {k: str(tmp_path/'aside'/k) for k in (
        'IPYTHONDIR', 'JUPYTER_RUNTIME_DIR', 'JUPYTER_DATA_DIR',
        'JUPYTER_CONFIG_DIR', 'XDG_CONFIG_HOME')}
    return caches | aside | dict(HOME=str(tmp_path/'home'))


@pytest.mark.parametrize('name', [
    pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow)
    for n in NAMES])
def test_notebook_runs_and_leaves_no_trace(name, project, home, tally):
    before = files(project)
    page = project/'nbs'/f'{name}.ipynb'
    run(nbformat.read(page, 4), page.parent, **home)
    after = files(project)
    assert {*after} == {*before} and after == before
    assert not files(Path(home['HOME']))
    tally('a notebook runs from start to end', 'in a copy of the project: no '
          'file of it is changed, the home stays empty', 1)


@pytest.mark.parametrize('name', [
    pytest.param(n, marks=[] if n == PAPER else pytest.mark.slow)
    for n in NAMES])
def test_notebook_runs_from_another_folder(name, project, home, tmp_path,
                                           tally):
    (tmp_path/'elsewhere').mkdir()
    run(nbformat.read(project/'nbs'/f'{name}.ipynb', 4), tmp_path/'elsewhere',
        **home)
    assert not files(tmp_path/'elsewhere')
    assert not files(Path(home['HOME']))
    tally('a notebook is opened from another folder', 'it runs, and leaves '
          'nothing there', 1)


def test_a_failing_cell_is_seen(project):
    v4 = nbformat.v4
    nb = v4.new_notebook(cells=[v4.new_code_cell('#| slow\n1/0'),
                                v4.new_code_cell('assert 2 + 2 == 5')])
    with pytest.raises(CellExecutionError, match='2 \\+ 2 == 5'):
        run(nb, project/'nbs')


def test_a_trace_is_seen(project, home):
    v4 = nbformat.v4
    nb = v4.new_notebook(cells=[v4.new_code_cell(
        "from pathlib import Path\nPath('litter').touch()\n"
        "Path.home().joinpath('trace').touch()")])
    before = files(project)
    run(nb, project/'nbs', **home)
    assert {*files(project)} - {*before} == {'nbs/litter'}
    assert [*files(Path(home['HOME']))] == ['trace']
    (project/'nbs'/'litter').unlink()
