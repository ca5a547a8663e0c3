"What several test files share."
import os
import shutil
from pathlib import Path

import pytest

# two test processes on two cores: one thread each is faster than two
os.environ.setdefault('OMP_NUM_THREADS', '1')

ROOT = Path(__file__).resolve().parent.parent
LEFT = ('.git', 'afd_demo', '_docs', '_proc', '.venv', '__pycache__',
        '*.egg-info', 'build', 'dist', 'data', 'runs')


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    "A copy of the project, in which notebooks may export."
    to = tmp_path_factory.mktemp('project')/'afd_nb'
    shutil.copytree(ROOT, to, symlinks=True,
                    ignore=shutil.ignore_patterns(*LEFT))
    return to
