"Notebooks, package, README and sidebar say the same."
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def fresh(project):
    "A copy of the project in which export and clean were run."
    bin = Path(sys.executable).parent
    for command in ('nbdev_export', 'nbdev_clean'):
        done = subprocess.run([bin/command], cwd=project, capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stderr
    return project


def files(root, pattern):
    return {p.relative_to(root).as_posix(): p.read_bytes()
            for p in root.glob(pattern) if '__pycache__' not in p.parts
            and '.ipynb_checkpoints' not in p.parts}


def test_package_is_what_the_notebooks_export(fresh):
    ours, made = files(ROOT, 'afd_nb/**/*.py'), files(fresh, 'afd_nb/**/*.py')
    assert ours.keys() == made.keys() and len(ours) > 10
    odd = [k for k in ours if ours[k] != made[k]]
    assert not odd, f'run nbdev_export: {odd}'


def test_notebooks_are_clean(fresh):
    ours, made = (files(r, 'nbs/**/*.ipynb') for r in (ROOT, fresh))
    assert ours.keys() == made.keys() and len(ours) > 10
    odd = [k for k in ours if ours[k] != made[k]]
    assert not odd, f'run nbdev_clean: {odd}'


def test_readme_is_what_index_gives():
    done = subprocess.run(
        [sys.executable, ROOT/'tools'/'readme.py', '--check'],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_sidebar_table_and_links_follow_from_folders_and_titles():
    done = subprocess.run(
        [sys.executable, ROOT/'tools'/'pages.py', '--check'],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sidebar = (ROOT/'nbs'/'sidebar.yml').read_text()
    listed = re.findall(r'- (\S+\.ipynb)', sidebar)
    assert sorted(listed) == sorted(
        p.relative_to(ROOT/'nbs').as_posix()
        for p in (ROOT/'nbs').glob('**/*.ipynb'))


def test_numbers_are_the_reading_order_without_gaps():
    for folder in (ROOT/'nbs').glob('*/'):
        names = sorted(p.name for p in folder.glob('*.ipynb'))
        assert [n[:3] for n in names] == [
            f'{k:02}_' for k in range(1, len(names) + 1)], folder.name


def test_no_output_holds_an_error_a_warning_or_a_path():
    import nbformat
    for path in sorted((ROOT/'nbs').glob('**/*.ipynb')):
        for c in nbformat.read(path, 4).cells:
            for o in c.get('outputs', []):
                assert o.output_type != 'error', path
                assert o.get('name') != 'stderr', path
                text = str(o.get('text', '')) + str(
                    o.get('data', {}).get('text/plain', ''))
                assert not re.search(r'/(root|home|tmp|work|Users)/', text)
