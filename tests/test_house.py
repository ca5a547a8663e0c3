"Arrows only down: floors, circles, and the numbers of the pages."
import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ('appendix_a_support', '1_method', '2_robustness',
          '3_representations', '4_rivals', '5_results', 'appendix_b_tools')
PAGES = {p.relative_to(ROOT/'nbs').as_posix(): nbformat.read(p, 4).cells
         for p in sorted((ROOT/'nbs').glob('*/*.ipynb'))}


def exported(cells):
    "The module that a page exports, or None."
    for c in cells:
        if m := re.match(r'#\| default_exp (\S+)$', c.source):
            return f'afd_nb.{m[1]}'


HOME = {exported(cells): p for p, cells in PAGES.items() if exported(cells)}


def place(page):
    "The floor of a page, and its name, which begins with its number."
    folder, _, name = page.partition('/')
    return FLOORS.index(folder) if folder in FLOORS else 99, name


def imported(source):
    "The modules of this package that a cell imports."
    tree = ast.parse(re.sub(r'(?m)^[%!].*', 'pass', source))
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom) and n.module:
            for a in n.names:
                both = n.module, f'{n.module}.{a.name}'
                yield from (m for m in both if m in HOME)
        elif isinstance(n, ast.Import):
            yield from (a.name for a in n.names if a.name in HOME)


def upward(page, cells):
    """What a page imports from a later one.

    Exported code never does. What is only shown may use all that was read
    before; the appendices are read last.
    """
    odd = set()
    for c in cells:
        if c.cell_type != 'code': continue
        code = c.source.startswith('#| export')
        if HOME.get('afd_nb.testing') == page: continue # of no floor
        if not code and page.startswith(('appendix', '6_', 'reference')):
            continue
        odd |= {m for m in imported(c.source)
                if HOME[m] != page and place(HOME[m]) > place(page)}
    return odd


def test_floors_and_circles():
    done = subprocess.run([Path(sys.executable).parent/'lint-imports'],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert 'Contracts: 3 kept, 0 broken' in done.stdout


@pytest.mark.parametrize('page', PAGES)
def test_a_page_imports_smaller_numbers_and_lower_floors(page):
    assert not upward(page, PAGES[page])


def test_an_arrow_that_goes_up_is_seen():
    up = nbformat.v4.new_code_cell(
        '#| export\ndef f():\n    from afd_nb.robustness.evaluation '
        'import evaluate')
    shown = nbformat.v4.new_code_cell(up.source.removeprefix('#| export\n'))
    for page in ('1_method/12_afd_algorithm_1.ipynb', '2_robustness/02_zoo.ipynb'):
        for cell in (up, shown):
            assert upward(page, [cell]) == {'afd_nb.robustness.evaluation'}
    assert upward('appendix_a_support/09_norms.ipynb', [up])
    assert not upward('appendix_a_support/09_norms.ipynb', [shown])
    assert not upward('5_results/01_experiments.ipynb', [up])


@pytest.mark.parametrize('module', HOME)
def test_what_is_called_by_name_takes_no_self(module):
    m = importlib.import_module(module)
    for name in m.__all__:
        o = getattr(m, name)
        if inspect.isfunction(o):
            assert 'self' not in [*inspect.signature(o).parameters][:1], name


def test_names_are_given_lazily():
    code = ('import sys, afd_nb; assert "torch" not in sys.modules; '
            'from afd_nb import *; assert "torch" in sys.modules; '
            'print(*afd_nb.__all__)')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True,
                          text=True)
    names = done.stdout.split()
    assert {'Recipe', 'fit', 'evaluate', 'attack', 'diagnose',
            'load_data'} <= {*names}, done.stderr
    stub = ast.parse((ROOT/'afd_nb'/'__init__.pyi').read_text())
    said = {a.name for n in stub.body if isinstance(n, ast.ImportFrom)
            for a in n.names}
    assert said == {*names}


SYMBOLS = set('xyhzn') # of the paper: images, labels, features, logits; size


def single_letters(f):
    "Arguments of one letter among more than three."
    a = f.args
    names = [v.arg for v in (*a.posonlyargs, *a.args, *a.kwonlyargs)
             if v.arg not in ('self', 'cls')]
    if len(names) > 3: yield from (k for k in names if len(k) == 1)


@pytest.mark.parametrize('module', HOME)
def test_arguments_are_words(module):
    tree = ast.parse((ROOT/f"{module.replace('.', '/')}.py").read_text())
    allowed = SYMBOLS | (set('ab') if module in ('afd_nb.support.statistics',
                                              'afd_nb.support.comparison')
                         else set()) # two samples, as SciPy names them
    odd = {(f.name, k) for f in ast.walk(tree)
           if isinstance(f, ast.FunctionDef) for k in single_letters(f)
           if k not in allowed}
    assert not odd


def test_a_single_letter_is_seen():
    f, = ast.parse('def f(model, x, y, *, w): pass').body
    assert [*single_letters(f)] == ['x', 'y', 'w']


def undefined_names(*paths):
    "What pyflakes says of names that nothing defines."
    done = subprocess.run([sys.executable, '-m', 'pyflakes', *map(str, paths)],
                          capture_output=True, text=True)
    return [l for l in done.stdout.splitlines() if 'undefined name' in l]


def test_every_name_in_the_package_is_defined(tmp_path):
    assert not undefined_names(ROOT/'afd_nb')
    (tmp_path/'m.py').write_text('def f(): return np.zeros(3)')
    assert len(undefined_names(tmp_path)) == 1


# ---- what a reader sees in a notebook

EVERY = {p.relative_to(ROOT/'nbs').as_posix(): nbformat.read(p, 4).cells
         for p in sorted((ROOT/'nbs').rglob('*.ipynb'))
         if '.ipynb_checkpoints' not in p.parts}


def out_of_sight(cells):
    "Names that shown cells use and that a hidden cell alone brings in."
    shown, seen, unseen = set(), set(), set()
    for c in cells:
        if c.cell_type != 'code': continue
        source = re.sub(r'(?m)^[%!].*', 'pass', c.source)
        try: tree = ast.parse(source)
        except SyntaxError: continue # a cell of another language
        hidden = re.search(r'(?m)^#\|\s*hide\b', source)
        names = {(a.asname or a.name).partition('.')[0]
                 for n in ast.walk(tree)
                 if isinstance(n, (ast.Import, ast.ImportFrom))
                 for a in n.names}
        (unseen if hidden else seen).update(names)
        if not hidden: shown |= {n.id for n in ast.walk(tree)
                                 if isinstance(n, ast.Name)}
    return shown & unseen - seen


READ = [p for p in EVERY if not p.startswith('reference/')
        and p != 'index.ipynb'] # made by tools, or README's


@pytest.mark.parametrize('page', READ)
def test_what_a_reader_copies_is_imported_in_sight(page):
    assert not out_of_sight(EVERY[page])


def test_an_import_out_of_sight_is_seen():
    cell = nbformat.v4.new_code_cell
    hidden = cell('#| hide\nfrom torch import nn\nimport os.path')
    assert out_of_sight([hidden, cell('nn.ReLU()')]) == {'nn'}
    assert out_of_sight([hidden, cell('import torch.nn as nn'),
                         cell('nn.ReLU()')]) == set()


OF_METHODS = 'appendix_a_support/07_plotting.ipynb' # says which they are


@pytest.mark.parametrize('page', EVERY)
def test_a_method_s_colour_is_for_that_method_alone(page):
    from afd_nb.support.plotting import METHOD_STYLES
    if page == OF_METHODS: return
    colors = [v['color'].lower() for v in METHOD_STYLES.values()]
    for c in EVERY[page]:
        if c.cell_type != 'code' or c.source.startswith('#| hide'): continue
        assert not [v for v in colors if v in c.source.lower()], c.source
