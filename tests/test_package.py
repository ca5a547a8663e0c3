"The sdist and the wheel, built, checked, and used where nothing else is."
import subprocess
import sys
import venv
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from test_docs import EXAMPLES, MODULES

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


def run(*argv, **kw):
    "What a command prints; its errors end the test."
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True,
                          **kw)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def dist(tmp_path_factory):
    "A folder with the sdist and the wheel of what git would ship."
    copy, out = (tmp_path_factory.mktemp(k) for k in ('copy', 'dist'))
    listed = run('git', 'ls-files', '-co', '--exclude-standard', cwd=ROOT)
    run('cp', '-P', '--parents', '-t', copy, *listed.splitlines(), cwd=ROOT)
    run(sys.executable, '-m', 'build', '--outdir', out, copy)
    return out


def test_twine_is_content(dist):
    said = run(sys.executable, '-m', 'twine', 'check', '--strict',
               *dist.iterdir())
    assert said.count('PASSED') == 2


def test_wheel_in_an_empty_environment(dist, tmp_path):
    venv.create(tmp_path/'env', with_pip=True)
    bin = tmp_path/'env'/'bin'
    wheel, = dist.glob('*.whl')
    run(bin/'python', '-m', 'pip', 'install', '-q', wheel)
    said = run(bin/'python', '-c', EXAMPLES, *MODULES, cwd=tmp_path)
    assert int(said.split()[-1]) >= 25
    commands = {e.name for e in entry_points(group='console_scripts')
                if e.value.startswith('afd_nb')}
    assert len(commands) >= 9
    for name in commands:
        assert 'usage' in run(bin/name, '--help', cwd=tmp_path)
    page = run(bin/'python', '-c', 'import afd_nb.robustness.evaluation as m; '
               'help(m.evaluate)', cwd=tmp_path)
    assert 'Robust accuracy' in page
