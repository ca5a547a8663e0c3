"""What the site needs, checked without building it: links, titles, words for
every figure, mathematics that compiles, a map on every page."""
import json
import re
import subprocess
import sys
from os.path import normpath
from pathlib import Path

import nbformat
import pytest
from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'tools'))
import prerender # noqa: E402

PAGES = {p.relative_to(ROOT/'nbs').as_posix(): nbformat.read(p, 4)
         for p in sorted((ROOT/'nbs').glob('**/*.ipynb'))}
LINK = re.compile(r'(!?)\[([^\]]*)\]\(([^)\s]+)\)')
PICTURE = re.compile(r'\[!\[[^\]]*\]\(data:[^)]*\)\]\(([^)\s]+)\)')


def prose(nb):
    "The Markdown cells of a page, without code blocks."
    return [re.sub(r'```.*?```', '', c.source, flags=re.S)
            for c in nb.cells if c.cell_type == 'markdown']


def anchors(nb):
    "The ids that headings of a page get."
    heads = re.findall(r'^#+ (.+)$', '\n'.join(prose(nb)), re.M)
    labels = re.findall(r'^#\| label: (\S+)', '\n'.join(
        c.source for c in nb.cells), re.M)
    return {re.sub(r'[^\w -]', '', h.lower()).strip().replace(' ', '-')
            for h in heads} | {*labels}


def broken(pages):
    "Links of pages that lead nowhere, as 'page: target'."
    odd = []
    for name, nb in pages.items():
        shown = [str(o.data['text/markdown']) for c in nb.cells
                 for o in c.get('outputs', [])
                 if 'text/markdown' in o.get('data', {})]
        text = '\n'.join(prose(nb) + shown)
        for to in [m[2] for m in LINK.findall(text)] + PICTURE.findall(text):
            if re.match(r'https?:|mailto:|data:', to):
                continue
            path, _, anchor = to.partition('#')
            path = normpath(Path(name).parent/path) if path else name
            page = pages.get(path) or PAGES.get(path)
            if not (page or (ROOT/'nbs'/path).is_file()) or (
                    anchor and anchor not in anchors(page)):
                odd.append(f'{name}: {to}')
    return odd


def test_every_internal_link_and_image_exists():
    assert not broken(PAGES)
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(
        '# T\n[a](00_tour.ipynb#nowhere) ![b](images/none.svg) [c](#t)')])
    assert broken({'p.ipynb': page}) == [
        'p.ipynb: 00_tour.ipynb#nowhere', 'p.ipynb: images/none.svg']


@pytest.mark.parametrize('name', PAGES)
def test_page_has_title_and_description(name):
    first, second = PAGES[name].cells[:2]
    assert re.fullmatch(r'# [^\n]+\n\n> [^\n]+', first.source)
    assert second.cell_type == 'markdown'
    if name != 'index.ipynb':
        assert second.source.startswith('![Where we are in Algorithm 1:')


CAPTION = '*Figure.* ' # Markdown, seen in Jupyter and on GitHub, too


def is_figure(cell):
    "Whether a cell's outputs hold a picture, in any form."
    return any({'image/png', 'image/svg+xml'} & {*o.get('data', {})}
               for o in cell.get('outputs', []))


@pytest.mark.parametrize('name', PAGES)
def test_a_figure_is_shown_where_svg_is_not(name):
    "JupyterLab shows no SVG of a notebook that it does not trust."
    for c in PAGES[name].cells:
        for o in c.get('outputs', []):
            if 'image/svg+xml' in o.get('data', {}):
                assert 'image/png' in o.data, c.source[:200]
                assert o.metadata['image/png']['width'] > 0
                assert not re.search(r'<dc:date>|/tmp/|Matplotlib v',
                                     o.data['image/svg+xml'])


@pytest.mark.parametrize('name', PAGES)
def test_figure_has_words(name):
    cells = PAGES[name].cells
    for c, below in zip(cells, [*cells[1:], None]):
        if c.cell_type == 'markdown':
            assert all(alt for bang, alt, _ in LINK.findall(c.source)
                       if bang)
        elif is_figure(c):
            for flag in ('label: fig-', 'fig-alt: '):
                assert f'#| {flag}' in c.source, c.source[:200]
            assert below.source.startswith(CAPTION), c.source[:200]
            assert 'fig-cap' not in c.source # one source: the text below


@pytest.mark.parametrize('name', PAGES)
def test_folded_on_the_site_is_folded_in_jupyter(name):
    for c in PAGES[name].cells:
        hidden = c.metadata.get('jupyter', {}).get('source_hidden', False)
        assert hidden == ('#| code-fold: true' in c.source), c.source[:200]


@pytest.mark.parametrize('name', PAGES)
def test_no_progress_bar_is_saved(name):
    "Neither its picture nor the state behind it, nor what went to stderr."
    nb = PAGES[name]
    assert 'widgets' not in nb.metadata
    for c in nb.cells:
        for o in c.get('outputs', []):
            assert not any('widget' in k for k in o.get('data', {})), c.source
            assert o.get('name') != 'stderr', c.source


def address(page):
    "Where nbdev puts a page: numbers go from files, not from folders."
    return str(Path(page).with_name(re.sub(
        r'^\d+[a-zA-Z0-9]*_', '', Path(page).name.lower())))


def test_no_two_pages_have_one_address():
    assert len({address(p) for p in PAGES}) == len(PAGES) > 50
    assert address('5_results/08_Table_1.ipynb') == '5_results/table_1.ipynb'
    from nbdev.doclinks import _nbpath2html
    assert all(_nbpath2html(Path(p)).with_suffix('.ipynb')
               == Path(address(p)) for p in PAGES)


def test_gallery_shows_every_figure():
    out, = [str(o.data['text/markdown'])
            for c in PAGES['reference/01_gallery.ipynb'].cells
            for o in c.get('outputs', []) if 'text/markdown' in o.data]
    made = {f'../{name}#{label}' for name, nb in PAGES.items()
            for c in nb.cells for label in re.findall(
                r'^#\| label: (\S+)', c.source, re.M)
            if is_figure(c)}
    assert {*PICTURE.findall(out)} == made


def formulas(nb):
    for text in prose(nb):
        text = re.sub(r'`[^`]*`', '', text)
        for m in re.finditer(r'\$\$(.+?)\$\$|\$([^$]+)\$', text, re.S):
            yield (m[1] or m[2]).strip()


def compiled(formula):
    "MathML of a formula; raises where it is none."
    if formula.replace(r'\{', '').count('{') != formula.replace(
            r'\}', '').count('}'):
        raise ValueError('unbalanced braces')
    try:
        text = convert(formula)
    except Exception as e: # the library's errors have no base of their own
        raise ValueError(repr(e)) from e
    if '\\' in text:
        raise ValueError(f'an unknown command: {text}')
    return text


def test_mathematics_compiles():
    found = [(n, f) for n, nb in PAGES.items() for f in formulas(nb)]
    assert len(found) > 100
    for name, formula in found:
        try:
            compiled(formula)
        except ValueError as e:
            raise AssertionError(f'{name}: {formula}') from e
    for bad in (r'\frac{a', r'\epsilno', 'x_{1', r'\left(a', 'x^a^b'):
        with pytest.raises(ValueError):
            compiled(bad)


def test_maps_are_what_the_tool_draws():
    done = subprocess.run([sys.executable, ROOT/'tools'/'maps.py',
                           '--check'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_link_is_code_alone():
    "nbdev makes a link of a symbol in backticks; one in another breaks both."
    odd = [(k, m) for k, nb in PAGES.items() for text in prose(nb)
           for m in re.findall(r'\[`[^`\]]+`\]\([^)]+\)', text)]
    assert not odd


WORDS = ('gradient masking', 'threat model', 'ablation', 'hyperparameter',
         'confidence interval', 'statistically significant', 'surrogate',
         'non-saturating', 'binary cross-entropy', 'minimax',
         'exponential moving average', 'adaptive attack')
DIALECT = ('what pgd leaves', 'who stands', 'masked gradients',
           'the ceiling', 'separable', 'borrowed', 'the twin', 'level ones',
           'a swing', 'impatient', 'is it real')


def test_prose_has_the_words_of_the_field():
    text = {k: ' '.join(prose(nb)).lower() for k, nb in PAGES.items()
            if not k.endswith('glossary.ipynb')}
    whole = ' '.join(text.values())
    assert not [w for w in WORDS if w not in whole]
    odd = [(k, w) for k, t in text.items() for w in DIALECT if w in t]
    assert not odd
    terms = ' '.join(prose(PAGES['reference/05_glossary.ipynb'])).lower()
    assert not [w for w in WORDS if w not in terms]

def made(path):
    "What nbdev makes of a page, without running it."
    from execnb.nbio import read_nb
    from nbdev.process import NBProcessor
    from nbdev.processors import (add_fold, add_show_docs, clean_show_doc,
                                  mv_exports, rm_export)
    page = NBProcessor(nb=read_nb(path), procs=[
        add_show_docs, clean_show_doc, rm_export, add_fold, mv_exports])
    page.process()
    return dict(cells=[dict(cell_type=c.cell_type, source=c.source,
                            outputs=[]) for c in page.nb.cells])


def documented(page):
    "The names that a made page documents, in order."
    for c in page['cells']:
        if c['cell_type'] != 'code': continue
        if m := prerender.SHOWN.search(prerender.text(c)): yield m[1]


def test_functions_stand_in_the_order_of_their_code():
    turned = 0
    for name in PAGES:
        page = json.loads((ROOT/'nbs'/name).read_text(encoding='utf-8'))
        new = made(ROOT/'nbs'/name)
        before = [*documented(new)]
        mended = prerender.mended(new, page)
        after = [*documented(mended)]
        of = prerender.places(page)
        assert sorted(before) == sorted(after), name
        assert after == sorted(after, key=of.__getitem__), name
        turned += before != after
        for c in mended['cells']: # long source is folded, short is not
            source = prerender.text(c)
            # Quarto would show a text of many lines as one
            assert c['source'] == source.splitlines(keepends=True), name
            if '"Exported source"' in source:
                assert ('fold: true' in source) == (
                    len(source.splitlines()) - 2 > prerender.LONG)
        again = json.dumps(mended)
        assert json.dumps(prerender.mended(mended, page)) == again, name
    assert turned > 20 # nbdev itself turns them round


def test_source_stands_after_all_its_names():
    code = ("#| exports\ndef b(): pass\ndef a(): pass\n@patch\n"
            "def c(self:B): pass")
    page = dict(cells=[dict(cell_type='code', source=code)])
    show = [dict(cell_type='code', source=f'#| echo: false\nshow_doc({k})')
            for k in ('B.c', 'a', 'b')]
    source = dict(cell_type='code', source=prerender.SOURCE
                  + code.partition('\n')[2])
    text = dict(cell_type='markdown', source='Then.')
    assert prerender.in_order([show[0], source, *show[1:], text],
                              prerender.places(page)) == [
        show[2], show[1], show[0], source, text]


def test_code_shows_no_link_and_a_picture_has_its_words():
    at = '(https://afd-nb.github.io/afd_nb/x.html#load_data)'
    shown = (f'As [`load_data`]{at}\n```python\n# as [`load_data`]{at}\n```\n'
             f'## On [`load_data`]{at}\n')
    cell = dict(cell_type='code', source='', outputs=[dict(data={
        'text/markdown': shown})])
    prerender.unlinked(cell)
    assert ''.join(cell['outputs'][0]['data']['text/markdown']) == (
        f'As [`load_data`]{at}\n```python\n# as load_data\n```\n'
        '## On `load_data`\n')
    cell = dict(cell_type='markdown',
                source='![A "map".](a.svg)\n\nAn ![icon](b.svg) here')
    for _ in '12': # twice is as once
        prerender.described(cell)
        assert ''.join(cell['source']) == (
            '![A "map".](a.svg){fig-alt="A \'map\'."}\n\n'
            'An ![icon](b.svg) here')


def test_a_mere_word_is_no_link():
    at = 'https://afd-nb.github.io/afd_nb/x.html#'
    for kept in ('pgd', 'worst_case', 'fit()', 'Recipe', 'Recipe.method',
                 'features.fit'):
        assert prerender.plain(f'a [`{kept}`]({at}k) b') == \
            f'a [`{kept}`]({at}k) b'
    for word in ('features', 'text', 'share', 'margin', 'images',
                 'generator', 'fit', 'measured'):
        assert prerender.plain(f'a [`{word}`]({at}{word}), [b](c)') == \
            f'a `{word}`, [b](c)'
    elsewhere = '[`text`](https://matplotlib.org/text)'
    assert prerender.plain(elsewhere) == elsewhere
    from afd_nb._modidx import d
    symbols = {k.rpartition('.')[2] for v in d['syms'].values() for k in v}
    assert prerender.NAMES <= symbols
    cell = dict(cell_type='code', source='', outputs=[dict(data={
        'text/markdown': f'- [`text`]({at}t): [`fit`]({at}f)\n'})])
    prerender.unlinked(cell, keep=True)
    assert cell['outputs'][0]['data']['text/markdown'] == [
        f'- [`text`]({at}t): `fit`\n']


def test_sentences_wrap_and_columns_do_not():
    def cell(source, *outputs):
        out = dict(cell_type='code', source=source, outputs=[
            dict(output_type='stream', text=v) if isinstance(v, str) else
            dict(output_type='execute_result', data=v) for v in outputs])
        for _ in '12': prerender.wrapped(out) # twice is as once
        return out['source']
    mark = '#| classes: sentences\n'
    said = '  Long lines of words, and\n    a few blanks before them.\n'
    assert cell('print(said)', said) == mark + 'print(said)'
    assert cell('said', {'text/plain': [said]}) == mark + 'said'
    assert cell('#| code-fold: true\nsaid', said).startswith(mark)
    table = '     clean  pgd\nnt      98    0\n'
    for kept in (cell('x', table), cell('x', said, table), cell('x'),
                 cell('x', {'text/plain': said, 'text/html': '<p>'})):
        assert kept == 'x'
    assert cell('%time x', said) == '%time x'
    css = (ROOT/'nbs/styles.css').read_text(encoding='utf-8')
    assert 'main .sentences .cell-output pre > code { white-space: pre-wrap' \
        in css


def test_pages_made_of_outputs_have_contents():
    for name in 'reference/01_gallery', 'reference/02_symbols':
        page = json.loads((ROOT/'nbs'/f'{name}.ipynb').read_text(
            encoding='utf-8'))
        new = prerender.mended(json.loads(json.dumps(page)), page)
        asis = [prerender.text(c).startswith('#| output: asis\n'
                '#| echo: false\n') and '#| code-fold' not in
                prerender.text(c) for c in new['cells']]
        assert sum(asis) == 1, name
        assert not new['cells'][asis.index(True)]['metadata'], name
    assert 'pre-render: ../tools/prerender.py' in (
        ROOT/'_quarto.yml').read_text(encoding='utf-8')


LONG = set() # pages that are still longer than the house allows


def size(cells):
    "Exported lines and words of prose."
    lines = words = 0
    for c in cells:
        if c.cell_type == 'markdown':
            prose = re.sub(r'```.*?```', '', c.source, flags=re.S)
            words += len(re.findall(r"[A-Za-z][\w'-]*", prose))
        elif re.search(r'^#\|\s*export', c.source, re.M):
            lines += sum(bool(l.strip()) and not l.startswith('#|')
                         for l in c.source.splitlines())
    return lines, words


@pytest.mark.parametrize('name', PAGES)
def test_a_page_is_short_enough_to_read(name):
    "At most 250 exported lines and 900 words, lists of everything apart."
    page = str(name).removesuffix('.ipynb')
    if page.startswith('reference/'): return
    lines, words = size(PAGES[name].cells)
    if page in LONG: assert lines > 250 or words > 900, 'off the list'
    else: assert lines <= 250 and words <= 900
