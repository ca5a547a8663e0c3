"What several test files share."
import csv
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.configuration import set_hypothesis_home_dir

from killing import Children

# two test processes on two cores: one thread each is faster than two
os.environ.setdefault('OMP_NUM_THREADS', '1')
# numba compiles Foolbox's Brendel-Bethge for a minute and runs it for half a
# second: the same machine code but for LLVM's optimisation takes half of it
os.environ.setdefault('NUMBA_OPT', '0')

ROOT = Path(__file__).resolve().parent.parent
LEFT = ('.git', 'afd_demo', '_docs', '_proc', '.venv', '__pycache__',
        '*.egg-info', 'build', 'dist', 'data', 'runs')

# how many cases a property is tried on: pytest --hypothesis-profile=long;
# the same ones in every run, and nothing of them is left in the folder
for name, cases in dict(ordinary=25, long=200).items():
    settings.register_profile(name, max_examples=cases, derandomize=True,
                              deadline=None, database=None,
                              phases=[Phase.generate, Phase.shrink])
settings.load_profile('ordinary')
set_hypothesis_home_dir(Path(tempfile.gettempdir())/'hypothesis')


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    "A copy of the project, in which notebooks may export."
    to = tmp_path_factory.mktemp('project')/'afd_nb'
    shutil.copytree(ROOT, to, symlinks=True,
                    ignore=shutil.ignore_patterns(*LEFT))
    return to


@pytest.fixture(scope='session')
def children():
    "Forks of a process that has imported torch: a start costs nothing."
    c = Children()
    yield c
    c.close()


TALLIES, TRIED, FAILED = [], set(), set()


@pytest.fixture
def tally(request):
    "Note a fault that was tried, how, how often; a test that fails, lost."
    TRIED.add(request.node.originalname)
    return lambda fault, how, times: TALLIES.append((fault, how, times))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if report.failed and 'tally' in item.fixturenames:
        TRIED.add(item.originalname)
        FAILED.add(item.originalname)


# two workers take whole files: the long ones first, so that both end together
LONG_FIRST = ('test_faults', 'test_awkward', 'test_properties',
              'test_scaling', 'test_analyses', 'test_processes',
              'test_experiments')


def pytest_collection_modifyitems(items):
    rank = {name: k for k, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda i: rank.get(i.path.stem, len(rank)))


def pytest_configure(config):
    if os.environ.get('AFD_RELIABILITY') and config.getoption('-n', None):
        raise pytest.UsageError('AFD_RELIABILITY is written by one process: '
                                'add -n 0')


def pytest_sessionfinish():
    "With AFD_RELIABILITY=FILE.csv: what was tried, and which tests failed."
    file = os.environ.get('AFD_RELIABILITY')
    if not file or not TRIED: return
    total, done = {}, Path(file)
    if done.exists():
        with open(done, newline='') as f:
            total = {(r['fault'], r['how']): (r['times'], r['lost'])
                     for r in csv.DictReader(f) if r['fault'] not in TRIED}
    for key in {(fault, how) for fault, how, _ in TALLIES}:
        total[key] = sum(n for *k, n in TALLIES if (*k,) == key), 0
    total |= {(name, 'this test failed'): (1, 1) for name in FAILED}
    with open(done, 'w', newline='') as f:
        out = csv.writer(f, lineterminator='\n')
        out.writerow(['fault', 'how', 'times', 'lost'])
        out.writerows([*k, *v] for k, v in sorted(total.items()))
