"What pip installs, seen from outside."
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted('.'.join(p.relative_to(ROOT/'afd_nb').with_suffix('').parts)
                 for p in (ROOT/'afd_nb').glob('**/[a-z]*.py'))


def test_package_imports_without_development_tools():
    block = '''
import sys
class Block:
    def find_spec(self, name, *_):
        if name.split('.')[0] in {'nbdev', 'execnb', 'IPython', 'ipykernel',
                'jupyter', 'pytest', 'nbclient', 'nbconvert', 'foolbox'}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import importlib
for m in sys.argv[1:]: importlib.import_module('afd_nb.' + m)
from afd_nb.method.settings import get_method
for m in ('nt', 'at', 'trades', 'rm', 'afd'): get_method(m)
print('ok')
'''
    done = subprocess.run([sys.executable, '-c', block, *MODULES],
                          capture_output=True, text=True)
    assert done.stdout == 'ok\n', done.stderr
    assert len(MODULES) >= 26


@pytest.mark.parametrize('name', ['afd_demo', 'afd_train', 'afd_evaluate',
                                  'afd_diagnose', 'afd_analyse',
                                  'afd_transfer', 'afd_report', 'afd_bench',
                                  'afd_experiment'])
def test_command_is_installed_and_helps(name):
    (command,) = entry_points(group='console_scripts', name=name)
    done = subprocess.run([Path(sys.executable).parent/name, '--help'],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert command.load().__doc__.split()[0] in done.stdout


def test_version_is_the_one_of_settings():
    import configparser
    import afd_nb
    config = configparser.ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini')
    assert afd_nb.__version__ == config['DEFAULT']['version']


WITHOUT = '''
import sys
class Refuse:
    def find_spec(self, name, *_):
        if name in ('torch', 'pandas'): raise AssertionError(name)
sys.meta_path.insert(0, Refuse())
from {module} import {command}
{command}({argv})
'''
EARLY = [
    ('afd_evaluate nosuch', 'nosuch is not a run'),
    ('afd_evaluate m:f', 'm:f says nothing of its images'),
    ('afd_evaluate m:f --dataset digits --record r', '--record is for runs'),
    ('afd_evaluate m:f --dataset digits --split valid', '--split valid is'),
    ('afd_evaluate nosuch --split all', "--split='all' is unknown"),
    ('afd_diagnose nosuch', 'nosuch is not a run'),
    ('afd_analyse nosuch --out x', 'nosuch is not a run'),
    ('afd_analyse nosuch --out x --what magic', "--what='magic'"),
    ('afd_transfer nosuch --out x.csv', 'nosuch is not a run'),
    ('afd_report nosuch', 'nosuch is no run and no record'),
    ('afd_train --help', 'afd_train --method NAME --help'),
    ('afd_train --method magic', "method='magic' is unknown"),
    ('afd_train --epochs x', "invalid int value: 'x'"),
    ('afd_train --recipe nosuch', 'there is no recipe file nosuch'),
    ('afd_train --resume nosuch', 'nosuch holds no run to resume'),
    ('afd_train --resume nosuch --epochs 3', '--resume goes with no recipe'),
    ('afd_bench --help', 'afd_step'),
    ('afd_bench --what magic', "--what='magic' is unknown"),
    ('afd_experiment magic', "there is no experiment 'magic'"),
    ('afd_experiment mnist-afd --size huge', "size='huge' is unknown")]


@pytest.mark.parametrize('line, says', EARLY)
def test_refused_before_torch_is_imported(line, says, tmp_path):
    name, *argv = line.split()
    (command,) = entry_points(group='console_scripts', name=name)
    done = subprocess.run([sys.executable, '-c', WITHOUT.format(
        module=command.module, command=name, argv=argv)], cwd=tmp_path,
        capture_output=True, text=True)
    assert says in ' '.join((done.stdout + done.stderr).split()), done.stderr
    assert 'Traceback' not in done.stderr
    assert done.returncode == (0 if '--help' in line else 2)


def test_attacking_loads_no_plots():
    done = subprocess.run([sys.executable, '-c', """
import sys, afd_nb.robustness.evaluation
print({'matplotlib', 'scipy.stats', 'sklearn', 'foolbox'} & {*sys.modules})
"""], capture_output=True, text=True)
    assert done.stdout.strip() == 'set()', done.stdout + done.stderr
