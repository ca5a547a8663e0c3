"""Mend the pages that nbdev made, before Quarto draws them.

Quarto calls this (`pre-render` in _quarto.yml). nbdev shows the functions
of one exported cell in reverse, makes a link of every word in backticks
that is also a name, in code blocks too, where it shows as its source, and
unfolds all exported source. Quarto gives a picture with a caption no
alternative text. It wraps all that is printed, or nothing.
"""
import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONG = 15 # lines of exported source that are not folded
# words that name nothing else: these are links without brackets
NAMES = {'auc', 'diagnose', 'evaluate', 'fgsm', 'fosc', 'holm', 'mcnemar',
         'mim', 'newcombe', 'pgd', 'resnet18', 'tsne', 'wilson'}
LINK = re.compile(r'\[`([a-z0-9]+)`\]\(https://[\w.-]+/afd_nb/[^)]*\)')
SPELT = re.compile(r'\[`([^`\]]+)`\]\([^)\s]*\)') # any link to a name
PICTURE = re.compile(r'^!\[(.+)\]\(([^)\s]+)\)$', re.M) # alone on its line
SHOWN = re.compile(r'^show_doc\(([\w.]+)\)$', re.M)
SOURCE = '#| code-fold: show\n#| code-summary: "Exported source"\n'


def text(cell: dict) -> str:
    "The source of a cell."
    return ''.join(cell['source'])


def patched(node) -> list:
    "Classes that a function with `@patch` is a method of."
    marks = {getattr(d, 'id', getattr(getattr(d, 'func', None), 'id', ''))
             for d in node.decorator_list}
    if 'patch' not in marks or not node.args.args: return []
    of = node.args.args[0].annotation
    if isinstance(of, ast.BinOp): of = ast.Tuple([of.left, of.right])
    return [ast.unparse(v) for v in getattr(of, 'elts', [of])]


def names(source: str) -> list:
    "What a cell defines, in order; 'Class.method' for a patched method."
    out = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef): out.append(node.name)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            out += [f'{c}.{node.name}' for c in patched(node)] or [node.name]
    return out


def places(page: dict) -> dict:
    "Of each name that a page exports: number of its cell, and place in it."
    return {name: (i, j) for i, c in enumerate(page['cells'])
            if c['cell_type'] == 'code'
            and re.search(r'^#\|\s*exports?\b', text(c), re.M)
            for j, name in enumerate(names(text(c)))}


def place(cell: dict, of: dict) -> tuple:
    "Where a made cell belongs: (cell, place in it); None for other cells."
    if cell['cell_type'] != 'code': return None
    if shown := SHOWN.search(text(cell)): return of.get(shown[1])
    if text(cell).startswith(SOURCE):
        found = [of[k] for k in names(text(cell)) if k in of]
        return (found[0][0], 10**6) if found else None # after its names
    return None


def in_order(cells: list, of: dict) -> list:
    "Cells with every run of made ones in the order of the page's code."
    out, run = [], []
    for c in cells:
        at = place(c, of)
        if at: run.append((at, c)); continue
        out += [c for _, c in sorted(run, key=lambda r: r[0])] + [c]
        run = []
    return out + [c for _, c in sorted(run, key=lambda r: r[0])]


def plain(words: str) -> str:
    "Markdown with links only where a name cannot be a mere word."
    return LINK.sub(lambda m: m[0] if m[1] in NAMES else f'`{m[1]}`', words)


def unlinked(cell: dict, keep: bool = False) -> None:
    """Take wrong links out of a cell; `keep` what begins a list's line.

    In a block of code, and in a heading, every link is wrong.
    """
    def mend(lines):
        if isinstance(lines, str): lines = lines.splitlines(keepends=True)
        out, in_code = [], False
        for v in lines:
            if v.lstrip().startswith('```'): in_code = not in_code
            i = keep and v.startswith('- [`') and v.find(')') or 0
            out.append(SPELT.sub(r'\1', v) if in_code else
                       SPELT.sub(r'`\1`', v) if v.startswith('#') else
                       v[:i] + plain(v[i:]))
        return out
    if cell['cell_type'] == 'markdown': cell['source'] = mend(cell['source'])
    for o in cell.get('outputs', []):
        if 'text/markdown' in o.get('data', {}):
            o['data']['text/markdown'] = mend(o['data']['text/markdown'])


def described(cell: dict) -> None:
    "Give a picture that stands alone its words as alternative text, too."
    if cell['cell_type'] != 'markdown': return
    words = lambda m: m[1].replace('"', "'")
    cell['source'] = PICTURE.sub(
        lambda m: f'{m[0]}{{fig-alt="{words(m)}"}}', text(cell)
        ).splitlines(keepends=True)


def folded(cell: dict) -> None:
    "Fold long exported source."
    source = text(cell)
    if source.startswith(SOURCE) and source.count('\n') - 1 > LONG:
        cell['source'] = source.replace('fold: show', 'fold: true', 1)


def with_contents(cell: dict) -> None:
    "Headings that an output makes are the page's: no box of code and output."
    made = [''.join(o['data']['text/markdown'])
            for o in cell.get('outputs', [])
            if 'text/markdown' in o.get('data', {})]
    if any(re.search(r'^## ', v, re.M) for v in made) \
            and 'output: asis' not in text(cell):
        cell.get('metadata', {}).pop('jupyter', None) # it would make a box
        cell['source'] = ('#| output: asis\n#| echo: false\n' + re.sub(
            r'^#\| *(code-fold|echo):.*\n', '', text(cell), flags=re.M))


def printed(cell: dict) -> str:
    "What a cell shows as plain text; a richer form is shown in its place."
    out = ''
    for o in cell.get('outputs', []):
        data = o.get('data', {})
        if data.keys() <= {'text/plain'}:
            out += ''.join(o.get('text', data.get('text/plain', '')))
    return out


def wrapped(cell: dict) -> None:
    """Mark a cell that prints sentences: styles.css wraps their lines.

    Where blanks make columns the lines stay, and scroll.
    """
    words, source = printed(cell), text(cell)
    if words.strip() and not re.search(r'\S {2,}\S', words) \
            and not source.startswith(('%', '#| classes:')):
        cell['source'] = '#| classes: sentences\n' + source


def mended(made: dict, page: dict, keep: bool = False) -> dict:
    "The page that nbdev made of a page, as Quarto should draw it."
    made['cells'] = in_order(made['cells'], places(page))
    for c in made['cells']:
        unlinked(c, keep)
        described(c)
        if c['cell_type'] == 'code':
            folded(c)
            with_contents(c)
            wrapped(c)
        # in a list: Quarto joins the lines of code that is one text
        c['source'] = text(c).splitlines(keepends=True)
    return made


if __name__ == '__main__':
    for path in sorted((ROOT/'_proc').glob('**/*.ipynb')):
        name = path.relative_to(ROOT/'_proc')
        if name.parts[0].startswith(('.', '_')): continue
        page = json.loads((ROOT/'nbs'/name).read_text(encoding='utf-8'))
        made = path.read_text(encoding='utf-8')
        new = json.dumps(mended(json.loads(made), page,
                                name.name == '02_symbols.ipynb'), indent=1,
                         ensure_ascii=False) + '\n'
        if new != made: path.write_text(new, encoding='utf-8')
