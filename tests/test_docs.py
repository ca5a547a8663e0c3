"Every public name says what it is, takes and gives; every example is true."
import ast
import inspect
import re
import subprocess
import sys
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
from fastcore.docments import docments

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted('.'.join(p.relative_to(ROOT).with_suffix('').parts)
                 for p in (ROOT/'afd_nb').glob('**/[a-z]*.py'))


def own(cls):
    "Does a class say itself what it is made with?"
    return bool({'__dataclass_fields__', '__init__'} & {*vars(cls)})


def lacks(o):
    "What the documentation of a function or class leaves out."
    said = (o.__doc__ or '').strip()
    made = said.startswith(getattr(o, '__name__', '-') + '(') # a dataclass's
    missing = ['docstring'] if made or not said else []
    if isinstance(o, property):
        return missing
    if inspect.isclass(o) and (issubclass(o, BaseException) or not own(o)):
        return missing
    source = inspect.getsource(o)
    head = next((l for l in source.splitlines() if re.match(' *def ', l)), '')
    if inspect.isfunction(o) and re.match(
            r' *def \w+\((?!self\)).*\w.*\): *#', head):
        missing.append('a line a parameter') # it would be the last one's
    told = docments(o, full=True, returns=False)
    for base in reversed(getattr(o, '__mro__', ())[1:]):
        if is_dataclass(base): # says what its fields are, for its heirs too
            told |= {k: v for k, v in docments(
                base, full=True, returns=False).items()
                if k in told and told[k]['docment'] is None}
    return missing + [
        k for k, v in told.items() if k != 'self' and v['docment'] is None
        and not re.search(rf'^ *(\*, )?\*\*{k}\b.*# ', source, re.M)]


def methods(cls):
    "What a class offers by itself, its bases apart, as functions."
    for k, v in vars(cls).items():
        f = v.fget if isinstance(v, property) else v
        if not (k.startswith('_') or hasattr(super(cls, cls), k)) and (
                inspect.isfunction(f)):
            yield f'{cls.__name__}.{k}', v if v.__doc__ else f


def public(name):
    "The functions and classes that a module defines for others."
    m = import_module(name)
    found = {k: getattr(m, k) for k in m.__all__}
    return {k: v for k, v in found.items()
            if (inspect.isfunction(v) or inspect.isclass(v))
            and v.__module__ == name and k == v.__name__}


@pytest.mark.parametrize('name', MODULES)
def test_every_public_name_says_what_it_takes(name):
    found = public(name)
    for cls in [*filter(inspect.isclass, found.values())]:
        found |= {k: v for k, v in methods(cls)}
    odd = {k: lacks(o) for k, o in found.items() if lacks(o)}
    assert not odd


@pytest.mark.parametrize('name', MODULES)
def test_site_can_show_every_signature(name):
    for o in public(name).values():
        inspect.signature(o, eval_str=True)


@pytest.mark.parametrize('name', MODULES)
def test_first_lines_fit_one_line(name):
    for k, o in public(name).items():
        first, *rest = inspect.getdoc(o).splitlines()
        assert len(first) <= 76 and not (rest and rest[0]), k


def test_what_is_missing_is_found():
    def good(
        a,     # one number
        *more, # others
        **kw,  # settings
    ): "It adds."
    def bad(a, # one number
            b,
            *more, **kw):
        "It adds."
    def silent(a): # one number
        pass
    class Made:
        "It is made."
        def __init__(self, n): pass
        def grow(self, by): pass
        @property
        def size(self): pass
    class Heir(Made):
        "It is made the same way."
        def grow(self, by): pass
    @dataclass
    class Bare: a:int # one number
    assert lacks(good) == [] and lacks(Heir) == []
    assert lacks(Bare) == ['docstring']
    assert lacks(bad) == ['b', 'more', 'kw']
    assert lacks(silent) == ['docstring', 'a line a parameter']
    assert lacks(Made) == ['n']
    assert {k: lacks(v) for k, v in methods(Made)} == {
        'Made.grow': ['docstring', 'by'], 'Made.size': ['docstring']}
    assert not [*methods(Heir)]
    assert len(public('afd_nb.support.attack_losses')) > 10
    assert 'Tensor' not in public('afd_nb.support.attack_losses')


def mixes(source, nested=True):
    "Does a cell that the site runs for its imports do other things, too?"
    if re.match(r'#\| *(export|echo: false)', source): return False
    tree = ast.parse(re.sub(r'(?m)^[%!].*', '', source))
    imports = ast.Import, ast.ImportFrom # nested: also inside of with, def
    seen = ast.walk(tree) if nested else tree.body
    return (any(isinstance(n, imports) for n in seen)
            and not all(isinstance(n, imports) for n in tree.body))


def test_site_runs_imports_alone():
    for path in sorted((ROOT/'nbs').glob('**/*.ipynb')):
        cells = [c.source for c in nbformat.read(path, 4).cells
                 if c.cell_type == 'code' and 'nbdev_export()' not in c.source]
        exports = any(re.search(r'(?m)^#\| *exports?\b', s) for s in cells)
        for s in cells: # of a page without exports it runs no hidden cell
            hidden = re.match(r'#\| *hide', s) and not exports
            assert hidden or not mixes(s, exports), (path.name, s)
    assert mixes('import gc\ngc.collect()') and not mixes('import gc')
    assert mixes('with x:\n    import gc') and not mixes('with x: pass')


EXAMPLES = '''
import sys
class Block:
    def find_spec(self, name, *_):
        if name.split('.')[0] in {'nbdev', 'execnb', 'IPython', 'ipykernel',
                'jupyter', 'pytest', 'nbclient', 'nbconvert'}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import doctest, importlib, os, tempfile
os.chdir(tempfile.mkdtemp())
n = 0
for name in sys.argv[1:]:
    m = importlib.import_module(name)
    for k, v in vars(m).items():
        if getattr(v, '__module__', '') != name or k != v.__name__: continue
        for t in doctest.DocTestFinder().find(v, f'{name}.{k}', m, vars(m)):
            if not t.examples: continue
            if doctest.DocTestRunner().run(t).failed: sys.exit(t.name)
            n += 1
print('examples', n)
'''


def test_examples_are_true_without_development_tools(children, tmp_path):
    done = subprocess.run([sys.executable, '-c', EXAMPLES, *MODULES],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) >= 25
    wrong = EXAMPLES.replace('n = 0', "n = 0; import afd_nb.method.losses as l; "
                             "l.kl.__doc__ = '>>> 1 + 1\\n3\\n'")
    child = children.start(tmp_path/'log', 'python', wrong,
                           'afd_nb.method.losses')
    assert child.wait(120) == 1 and 'afd_nb.method.losses.kl' in child.said()
