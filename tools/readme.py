"""Make README.md from nbs/index.ipynb; `--check` only compares.

Quarto is not needed: hidden cells and directives are taken out, the rest
goes through nbconvert.
"""
import base64
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
FIGURES = {} # file -> bytes, filled by `readme`
LENT = {'fig-1a': '01_afd_in_one_notebook.ipynb'} # label -> page that has it


def lent(label: str) -> None:
    "A figure of another page, as a file beside the maps."
    nb = nbformat.read(ROOT/'nbs'/LENT[label], as_version=4)
    cell, = [c for c in nb.cells if f'#| label: {label}\n' in c.source]
    png, = [o.data['image/png'] for o in cell.outputs
            if 'image/png' in o.get('data', {})]
    FIGURES[ROOT/'nbs'/'images'/f'{label}.png'] = base64.b64decode(png)


def figure(cell, png: str) -> str:
    "A figure as a file beside the maps; its caption is the next cell."
    said = {k: v.strip().strip('"') for k, _, v in
            (f.removeprefix('#|').strip().partition(':')
             for f in cell.metadata['flags'])}
    path = ROOT/'nbs'/'images'/f"{said['label']}.png"
    FIGURES[path] = base64.b64decode(png)
    return f"![{said['fig-alt']}](nbs/images/{path.name})"


def readme(notebook: Path) -> str:
    "The Markdown of a notebook as GitHub shows it."
    nb = nbformat.read(notebook, as_version=4)
    nb.metadata['language_info'] = {'name': 'python'}
    for label in LENT: lent(label)
    cells = []
    for c in nb.cells:
        lines = c.source.splitlines()
        flags = [l for l in lines if l.startswith('#|')]
        if any('hide' in f or 'include: false' in f for f in flags):
            continue
        c.metadata['flags'] = flags
        c.source = '\n'.join(l for l in lines if not l.startswith('#|'))
        if any('echo: false' in f for f in flags):
            c.metadata['echo'] = False
        for o in c.get('outputs', []):
            data = o.get('data', {})
            if 'text/markdown' in data or 'text/plain' in data:
                data.pop('text/html', None)
        cells.append(c)
    nb.cells = cells
    out = []
    for c in nb.cells:
        if c.cell_type == 'code' and c.metadata.get('echo') is False:
            for o in c.outputs:
                data = o['data']
                out.append(data['text/markdown'] if 'text/markdown' in data
                           else figure(c, data['image/png']))
            continue
        one = nbformat.v4.new_notebook(cells=[c], metadata=nb.metadata)
        text, _ = MarkdownExporter().from_notebook_node(one)
        out.append(text.strip('\n'))
    text = '\n\n'.join(out) + '\n'
    note = '<!-- Made from nbs/index.ipynb by tools/readme.py -->\n\n'
    text = re.sub(r'\]\(([\w/]+\.ipynb|images/[\w.-]+)\)', r'](nbs/\1)', text)
    return note + re.sub(r'\n{3,}', '\n\n', text)


if __name__ == '__main__':
    want, path = readme(ROOT/'nbs'/'index.ipynb'), ROOT/'README.md'
    if '--check' not in sys.argv:
        path.write_text(want, encoding='utf-8')
        for file, png in FIGURES.items():
            file.write_bytes(png)
    elif path.read_text(encoding='utf-8') != want or any(
            not f.exists() or f.read_bytes() != png
            for f, png in FIGURES.items()):
        sys.exit('README.md is not what nbs/index.ipynb gives: run '
                 'python tools/readme.py')
