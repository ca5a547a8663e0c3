"""Draw nbs/images/map-*.svg: Algorithm 1 in one line, a part of it lit.

Every notebook begins with one of them. `--check` only compares.
"""
import sys
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent/'nbs'/'images'

# name: (left, top, width, label, second line)
BOXES = {'x': (14, 20, 74, 'x', 'images'),
         'attack': (14, 92, 74, 'π', 'attack'),
         'x_adv': (124, 92, 74, "x'", 'perturbed'),
         'E': (234, 56, 84, 'E', 'embedding'),
         'h': (354, 20, 74, 'h', 'features'),
         'h_adv': (354, 92, 74, "h'", 'features'),
         'Dc': (464, 20, 84, 'Dc', 'decoder'),
         'Da': (464, 92, 84, 'Da', 'discriminator'),
         'class': (584, 20, 104, 'class', '(1) E, Dc: be right'),
         'side': (584, 92, 104, "h or h'?", '(2) Da: tell apart')}
HEIGHT = 44
ARROWS = [('x', 'E'), ('x', 'attack'), ('attack', 'x_adv'), ('x_adv', 'E'),
          ('E', 'h'), ('E', 'h_adv'), ('h', 'Dc'), ('h', 'Da'),
          ('h_adv', 'Da'), ('Dc', 'class'), ('Da', 'side'),
          ('side', 'fool'), ('fool', 'E')]
ALL = {*BOXES, 'fool'}
PARTS = { # what is lit, and the words for those who cannot see it
    'ground': (set(), 'nothing yet, the ground below'),
    'data': ({'x'}, 'the images'),
    'networks': ({'E', 'h', 'Dc'}, 'embedding and decoder'),
    'discriminator': ({'Da', 'side'}, 'the discriminator'),
    'losses': ({'class', 'side', 'fool'}, 'the three losses'),
    'attack': ({'attack', 'x_adv'}, 'the attack'),
    'inside': ({'attack', 'x_adv', 'E', 'Dc'}, 'the network under attack'),
    'training': ({'E', 'Dc', 'Da', 'class', 'side', 'fool'},
                 'the steps of training'),
    'whole': (ALL, 'all of it'),
    'rivals': ({'x', 'attack', 'x_adv', 'E', 'h', 'Dc', 'class'},
               'all but the game'),
    'answers': ({'attack', 'x_adv', 'E', 'Dc', 'class'},
                'the answers under attack'),
    'features': ({'E', 'h', 'h_adv'}, 'the features'),
    'game': ({'h', 'h_adv', 'Da', 'side', 'fool'}, 'the game'),
    'records': ({'class'}, 'what came out')}
LIT = ' class="lit"'
STYLE = '''
text{font:14px system-ui,sans-serif;text-anchor:middle;fill:#7a8492}
.small{font-size:9.5px}
rect{fill:#fff;stroke:#c3cad3}
path{fill:none;stroke:#c3cad3;stroke-width:1.4}
.lit rect{fill:#c8404f;stroke:#c8404f}.lit text{fill:#fff}
path.lit{stroke:#c8404f;stroke-width:2}
text.lit{fill:#c8404f}
'''


def box(name: str, lit: set) -> str:
    "One box with its two lines."
    x, y, w, label, below = BOXES[name]
    middle = x + w/2
    return (f'<g{LIT if name in lit else ""}>'
            f'<rect x="{x}" y="{y}" width="{w}" height="{HEIGHT}" rx="6"/>'
            f'<text x="{middle}" y="{y + 19}">{escape(label)}</text>'
            f'<text class="small" x="{middle}" y="{y + 35}">'
            f'{escape(below)}</text></g>')


def edge(a: str, b: str) -> str:
    "The path of an arrow, from box to box."
    if 'fool' in (a, b):
        return ('M636 136 V156 H276' if a == 'side' else 'M276 156 V102')
    (x, y, w, *_), (u, v, *_) = BOXES[a], BOXES[b]
    if x == u:
        return f'M{x + w/2} {y + HEIGHT} V{v - 2}'
    enter = 10 if (a, b) == ('h', 'Da') else HEIGHT/2
    return f'M{x + w} {y + HEIGHT/2} L{u - 2} {v + enter}'


def drawing(part: str) -> str:
    "The map as SVG text."
    lit, words = PARTS[part]
    on = lambda a, b: {a, b} <= lit or ('fool' in (a, b) and 'fool' in lit)
    arrows = []
    for a, b in ARROWS:
        shown = on(a, b)
        head = '' if b == 'fool' else (
            f' marker-end="url(#{"lit" if shown else "dim"})"')
        arrows.append(f'<path{LIT if shown else ""} '
                      f'd="{edge(a, b)}"{head}/>')
    heads = ''.join(
        f'<marker id="{k}" viewBox="0 0 8 8" refX="6" refY="4" '
        f'markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" '
        f'orient="auto"><path d="M0 0 L8 4 L0 8 z" style="fill:{c};'
        f'stroke:none"/></marker>' for k, c in (('dim', '#c3cad3'),
                                                ('lit', '#c8404f')))
    fool = ' lit' if 'fool' in lit else ''
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 704 176" '
        f'width="704" height="176" role="img"><title>Algorithm 1; lit: '
        f'{escape(words)}</title><style>{STYLE}</style><defs>{heads}</defs>'
        '<rect x=".5" y=".5" width="703" height="175" rx="8" '
        'style="fill:#f6f7f9;stroke:#e2e6eb"/>' + ''.join(arrows)
        + f'<text class="small{fool}" x="460" y="168">(3) E: have h\' '
        'taken for h</text>' + ''.join(box(k, lit) for k in BOXES)
        + '</svg>\n')


if __name__ == '__main__':
    FOLDER.mkdir(exist_ok=True)
    odd = []
    for part in PARTS:
        path = FOLDER/f'map-{part}.svg'
        if '--check' not in sys.argv:
            path.write_text(drawing(part), encoding='utf-8')
        elif (not path.exists()
              or path.read_text(encoding='utf-8') != drawing(part)):
            odd.append(path.name)
    if odd:
        sys.exit(f'{", ".join(odd)}: run python tools/maps.py')
