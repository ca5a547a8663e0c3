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
from afd_nb.method.recipe import get_method
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
