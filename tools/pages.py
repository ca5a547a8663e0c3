"""What follows from the folders and the titles of the pages, and is made:
the sidebar, the list of all pages, the link to the next page.
`--check` only compares.

nbdev's own sidebar takes the numbers from the folders' names in its links,
which then lead nowhere; so this one is made here, from the same folders.
"""
import re
import sys
import uuid
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
LIST = 'reference/03_pages.ipynb', '## 1 Method\n' # a page, how its cell begins


def order() -> list:
    "Every page below nbs/, in reading order, as 'folder/page.ipynb'."
    found = [p.relative_to(NBS).as_posix() for p in NBS.glob('**/*.ipynb')
             if not any(v.startswith(('.', '_')) for v in
                        p.relative_to(NBS).parts)]
    return sorted(found, key=lambda p: ('/' in p, p != 'index.ipynb', p))


def section(folder: str) -> str:
    "'1_method' is '1 Method', 'appendix_a_support' 'Appendix A Support'."
    return ' '.join(v.capitalize() for v in folder.split('_'))


def folders(pages: list) -> dict:
    "The pages of each folder, '' being the first ones, both in order."
    out = {}
    for p in pages: out.setdefault(p.rpartition('/')[0], []).append(p)
    return out


def sidebar(pages: list) -> str:
    "The text of nbs/sidebar.yml."
    lines = ['website:', '  sidebar:', '    contents:']
    for folder, inside in folders(pages).items():
        if folder: lines += [f'    - section: {section(folder)}',
                             '      contents:']
        lines += [f"    {'  '*bool(folder)}- {p}" for p in inside]
    return '\n'.join(lines) + '\n'


def title(page: str) -> tuple:
    "Title and subtitle of a page."
    text = nbformat.read(NBS/page, 4).cells[0].source
    head, _, said = text.partition('\n\n> ')
    return head.removeprefix('# '), said


def contents(pages: list) -> str:
    "Every page of every folder by its title, and what it says of itself."
    out = []
    for folder, inside in folders(pages).items():
        if not folder: continue
        out.append(f'## {section(folder)}\n')
        for p in inside:
            head, said = title(p)
            out.append(f'- [{head}](../{p}){": " if said else ""}{said}')
        out.append('')
    return '\n'.join(out).strip()


def onward(page: str, after: str) -> str:
    "The link from a page to the one after it."
    here, there = Path(page).parent, Path(after)
    to = (there.name if there.parent == here else
          '../'*len(here.parts) + after)
    head, said = title(after)
    return f'Next: [{head}]({to}). {said}'


def with_next(page: str, after: str) -> nbformat.NotebookNode:
    "The page with its link onward as the last cell but the export."
    nb = nbformat.read(NBS/page, 4)
    at = [i for i, c in enumerate(nb.cells)
          if c.source.startswith('Next: [')]
    if not after:
        for i in at: nb.cells.pop(i)
    elif at: nb.cells[at[0]].source = onward(page, after)
    else:
        cell = nbformat.v4.new_markdown_cell(onward(page, after))
        cell['id'] = uuid.uuid4().hex[:8]
        nb.cells.insert(len(nb.cells) - 1, cell)
    return nb


def with_list(nb, pages: list) -> nbformat.NotebookNode:
    "The page of all pages with its list."
    cell, = [c for c in nb.cells if c.source.startswith(LIST[1])]
    cell.source = contents(pages)
    return nb


if __name__ == '__main__':
    pages, odd = order(), []
    made = {NBS/'sidebar.yml': sidebar(pages)}
    for page, after in zip(pages, [*pages[1:], '']):
        nb = (nbformat.read(NBS/page, 4) if page == 'index.ipynb'
              else with_next(page, after))
        if page == LIST[0]: nb = with_list(nb, pages)
        made[NBS/page] = nbformat.writes(nb) + '\n'
    for path, text in made.items():
        if path.exists() and path.read_text(encoding='utf-8').rstrip(
                ) == text.rstrip(): continue
        odd.append(path.relative_to(ROOT).as_posix())
        if '--check' not in sys.argv: path.write_text(text, encoding='utf-8')
    if odd and '--check' in sys.argv:
        sys.exit(f'not as the titles and folders have it: {odd}; run '
                 'python tools/pages.py')
