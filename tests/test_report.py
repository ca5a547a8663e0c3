"The pages of afd_report and afd_demo, as a file and in a real browser."
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from afd_nb import load_data
from afd_nb.tools import demo
from afd_nb.tools.commands import afd_demo, afd_train
from afd_nb.tools.run_commands import afd_evaluate, afd_report
from afd_nb.rivals.on_the_digits import demo_methods, demo_recipe
from afd_nb.tools.demo import EPSILONS, draw_curves, write_demo_report
from browser import BINARY, Browser

ROOT = Path(__file__).resolve().parent.parent
MNIST = [str(ROOT/f'results/old/mnist/{m}/seed0.json')
         for m in ('nt', 'at', 'trades', 'rm', 'afd')]
PAGES = 'mnist', 'seeds', 'digits', 'demo', 'all'


def demo_page(out, methods='paper'):
    "The demo's page, from numbers that are made up."
    methods = demo_methods(methods)
    out.mkdir(exist_ok=True)
    df = pd.DataFrame([dict(
        method=m, seed=0, eps=e, n=360, upper_bound=1., seconds=3.,
        accuracy=.95 - e*(i + 1)*2.5/len(methods), high=.96,
        low=.9 - e*(i + 1)*2.5/len(methods))
        for i, m in enumerate(methods) for e in EPSILONS])
    runs = [SimpleNamespace(recipe=demo_recipe(m), path=out/'runs'/m,
                            record=dict(device='cpu', versions=dict(
                                python='3.11'))) for m in methods]
    fig, ax = plt.subplots(figsize=(4.6, 3))
    for name in 'story.png', 'tsne.png': fig.savefig(out/name, dpi=160)
    plt.close(fig)
    draw_curves(df, .2, out)
    write_demo_report(runs, df, out)
    return out/'report.html'


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    "Name -> file: records, seeds, a run that was trained here, the demo."
    d = tmp_path_factory.mktemp('pages')
    afd_report([*MNIST, '--out', str(d/'mnist.html')])
    afd_report([*map(str, sorted((ROOT/'results/old/mnist').glob('*/*.json'))),
                '--out', str(d/'seeds.html')])
    afd_train(f'--out {d}/run --method afd --epochs 2 --n_train 256 '
              '--steps 2 --depth 1'.split())
    afd_evaluate(f'{d}/run --eps 0 .1 .2 --n 50 --steps 3 --record '
                 f'{d}/kept'.split())
    afd_report(f'{d}/run --records {d}/kept --out {d}/digits.html'.split())
    return dict(mnist=d/'mnist.html', seeds=d/'seeds.html',
                digits=d/'digits.html', demo=demo_page(d/'demo'),
                all=demo_page(d/'all', 'all'))


class Structure(HTMLParser):
    "Tags in order, those that are left open, and attributes."
    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ('meta', 'img', 'br'): self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def test_a_report_also_gives_robustbenchs_form(tmp_path, capsys):
    mine = [str(ROOT/'results'/'mnist'/m/'seed0.json') for m in ('afd', 'at')]
    argv = [*mine, '--out', f'{tmp_path}/r.html', '--robustbench',
            f'{tmp_path}/rb']
    afd_report(argv)
    files = sorted((tmp_path/'rb').rglob('*.json'))
    assert [f.parent.relative_to(tmp_path/'rb').as_posix()
            for f in files] == ['mnist/Linf']*2
    auto = [float(json.loads(f.read_text())['autoattack_acc']) for f in files]
    for p, a in zip(mine, auto):
        rows = [v for v in json.loads(Path(p).read_text())['evaluations']
                if v['attack'] == 'autoattack' and v['norm'] == 'linf'
                and v['split'] == 'test' and v['eps'] == .3]
        assert a == pytest.approx(max(
            (v['n'], 100*v['right']/v['n']) for v in rows)[1], abs=.006)
    before = [f.read_bytes() for f in files]
    with pytest.raises(SystemExit): afd_report([*argv, '--replace'])
    assert 'is there already' in capsys.readouterr().err
    assert [f.read_bytes() for f in files] == before


@pytest.mark.parametrize('name', PAGES)
def test_page_is_whole_and_needs_nothing(pages, name):
    text = pages[name].read_text('utf-8')
    s = Structure(text)
    assert not s.open
    for tag, attrs in s.seen:
        assert tag not in ('link', 'iframe', 'object'), tag
        for k in ('src', 'href'):
            assert attrs.get(k, 'data:').startswith('data:'), attrs
        if tag == 'img': assert attrs['alt'] and int(attrs['width']) > 100
        if tag == 'th' and attrs['scope'] == 'col':
            assert attrs['aria-sort'] == 'none'
    tags = [tag for tag, _ in s.seen]
    assert tags.index('img') < tags.index('table') # figures first
    assert tags.count('h1') == 1 and tags.count('script') == 1
    assert not re.search(r'url\(|@import', text)


@pytest.mark.parametrize('name', PAGES)
def test_page_says_what_is_not_known(pages, name):
    text = pages[name].read_text('utf-8')
    assert not re.search(r'\b(is|as|more|less) robust', text)
    assert 'Wilson' in text
    if name != 'mnist': assert 'afd_diagnose' in text
    if name in ('digits', 'demo', 'all'):
        assert 'robustness is unverified' in text
        assert 'One training each' in text
    if name == 'mnist':
        assert '8.9 points fall only to AutoAttack' in text
        assert 'epochs 16 instead of 100' in text


def test_a_demo_of_all_has_a_row_a_method(pages):
    text = pages['all'].read_text('utf-8')
    body = text[text.index('<tbody>'):text.index('</tbody>')]
    assert body.count('<tr>') == 15
    for name in 'Repr. matching', 'Feature scattering', 'YOPO', 'RLFAT', 'RST':
        assert f'>{name}</th>' in body
    assert 'ways to train it: 15' in text
    assert '--methods nt at trades rm afd ates' in text
    assert text.count('The recipe of') == 15
    assert '647 of 1,294' in text


@pytest.mark.long
def test_a_demo_of_all_runs_and_resumes(tmp_path, monkeypatch):
    take = demo.take
    monkeypatch.setattr(demo, 'take', lambda split: take(split, 40))
    monkeypatch.setattr(demo, 'EPSILONS', [0., .1, .2])
    small = lambda *a, n_train=None, **kw: load_data( # RST has its own
        *a, n_train=n_train or 64, **kw)
    monkeypatch.setattr(demo, 'load_data', small)
    kw = dict(methods='all', epochs=1, progress=False)
    df = demo.run_demo(tmp_path/'d', **kw)
    assert [*df.method.unique()] == demo_methods('all')
    assert df.accuracy.between(0, 1).all()
    assert len(demo.summary(df)) == 15
    state = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('state.pt')}
    again = demo.run_demo(tmp_path/'d', resume=True, **kw)
    pd.testing.assert_frame_equal(df, again)
    assert len(state) == 15
    assert state == {p: p.stat().st_mtime_ns for p in state}


def test_a_demo_refuses_a_method_before_it_works(tmp_path, capsys):
    for words in '--methods at ats', '--methods at --import no_such_module':
        with pytest.raises(SystemExit) as stopped:
            afd_demo(f'--out {tmp_path}/d {words}'.split())
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        assert ('ates' in said and 'trades' in said if 'ats' in words
                else 'no_such_module' in said), said
    assert not (tmp_path/'d').exists()


needs_browser = pytest.mark.skipif(
    BINARY is None, reason='no chromium, google-chrome or chrome on PATH')


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    b = Browser(tmp_path_factory.mktemp('profile'))
    yield b
    b.close()


LOOK = '''({
 images: [...document.images].map(i => {
  const r = i.getBoundingClientRect();
  return [i.naturalWidth, i.naturalHeight, r.width, r.height,
          r.left, r.right]}),
 wide: document.documentElement.scrollWidth,
 out: [...document.querySelectorAll('h1,h2,p,img,figcaption,summary,pre,'
  + '.wide,.key,.verdict')].filter(e => {
   const r = e.getBoundingClientRect();
   return r.left < -1 || r.right > WIDTH + 1}).map(e => e.tagName),
 ground: getComputedStyle(document.body).backgroundColor,
 ink: getComputedStyle(document.body).color})'''


def faults(b):
    "Everything that is wrong with the page that is open."
    seen, found = b.js(LOOK.replace('WIDTH', str(b.width))), b.wrong()
    if not seen['images']: found.append('no figure')
    for k, (nw, nh, w, h, left, right) in enumerate(seen['images']):
        if not (nw and nh): found.append(f'figure {k} holds no picture')
        elif w < 100 or h < 60: found.append(f'figure {k} is {w} x {h}')
        elif abs(w/h - nw/nh) > .05: found.append(f'figure {k} is bent')
    if seen['wide'] > b.width: found.append(f"{seen['wide']} pixels wide")
    return found + [f'{tag} sticks out' for tag in seen['out']]


@needs_browser
@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
@pytest.mark.parametrize('width', [1200, 390])
@pytest.mark.parametrize('name', PAGES)
def test_page_opens(browser, pages, name, width, dark):
    b = browser.page(pages[name], width=width, dark=dark)
    assert faults(b) == []
    b.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert faults(b) == []
    seen = b.js(LOOK.replace('WIDTH', str(width)))
    light = lambda k: sum(map(int, re.findall(r'\d+', seen[k])[:3]))/765
    assert (light('ground') < .2) == dark
    assert abs(light('ground') - light('ink')) > .6


COLUMNS = '''[...document.querySelectorAll('table')].map(t =>
 [...t.tHead.rows[0].cells].map((th, i) => {
  const values = () => [...t.tBodies[0].rows].map(r => r.cells[i].dataset.v);
  const rows = () => [...t.tBodies[0].rows].map(r => r.innerText).sort();
  const before = rows(), got = [];
  for (let k = 0; k < 2; k++) {
   th.querySelector('button').click();
   got.push([th.getAttribute('aria-sort'), values(),
    t.querySelectorAll('thead [aria-sort$=ending]').length])}
  return [got, JSON.stringify(before) === JSON.stringify(rows())]}))'''


@needs_browser
@pytest.mark.parametrize('name', PAGES)
def test_every_column_sorts(browser, pages, name):
    b = browser.page(pages[name])
    b.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    columns = [c for table in b.js(COLUMNS) for c in table]
    assert len(columns) > 5
    for got, same_rows in columns:
        assert same_rows
        assert {g[0] for g in got} == {'ascending', 'descending'}
        assert [g[2] for g in got] == [1, 1]
        for way, values, _ in got:
            there = [v for v in values if v != '']
            assert values == there + ['']*(len(values) - len(there))
            try: there = [float(v) for v in there]
            except ValueError: continue # words: the browser's own order
            assert there == sorted(there, reverse=way == 'descending')
    assert b.wrong() == []


@needs_browser
def test_keys_sort_too(browser, pages):
    b = browser.page(pages['mnist'])
    b.js("document.querySelector('.wide').focus()")
    for _ in range(3): b.key('Tab') # run, clean, PGD
    what = ('[document.activeElement.innerText, document.activeElement'
            ".closest('th').getAttribute('aria-sort'), document"
            ".activeElement.closest('table').tBodies[0].rows[0].cells[0]"
            '.innerText]')
    assert b.js(what) == ['PGD', 'none', 'NT']
    b.key('Enter')
    assert b.js(what) == ['PGD', 'descending', 'AT']
    b.key(' ')
    assert b.js(what) == ['PGD', 'ascending', 'NT']
    outline = b.js('getComputedStyle(document.activeElement).outlineStyle')
    assert outline == 'solid'


@needs_browser
@pytest.mark.parametrize('name', PAGES)
def test_print_on_a4_cuts_nothing(browser, pages, name):
    b = browser.page(pages[name], width=688, height=1000, media='print')
    b.js("dispatchEvent(new Event('beforeprint'))")
    assert b.js("document.querySelectorAll('details:not([open])').length"
                ) == 0
    out = b.js('''[...document.querySelectorAll('table,pre,img,p')].filter(
     e => e.getBoundingClientRect().right > innerWidth + 1 ||
      e.scrollWidth > e.clientWidth + 1 && e.tagName === 'PRE').map(
     e => [e.tagName, e.getBoundingClientRect().right, e.innerText])''')
    assert out == []
    b.js("dispatchEvent(new Event('afterprint'))")
    assert b.js("document.querySelectorAll('details[open]').length") == 0
    assert b.pdf().startswith(b'%PDF')


HELP = '''
import sys
from afd_nb.tools.run_commands import afd_report
try: afd_report(['--help'])
except SystemExit as e: assert e.code == 0
assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules
'''


def test_help_is_quick():
    done = subprocess.run([sys.executable, '-c', HELP], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    assert '--records DIR' in done.stdout and '--replace' in done.stdout


@needs_browser
@pytest.mark.parametrize('spoil, says', [
    (lambda s: s.replace('<script>', '<script>nothing.there();'),
     'nothing is not defined'),
    (lambda s: s.replace('<script>', '<script>console.error("no");'),
     'console.error'),
    (lambda s: s.replace('base64,', 'base64,AAAA', 1), 'holds no picture'),
    (lambda s: s.replace('<img ', '<img style="max-width:0" ', 1), ' x '),
    (lambda s: s.replace('<h1>', '<h1 style="width:600px">'), 'sticks out'),
    (lambda s: s.replace('<h1>', '<img src="https://example.org/a.png">'
                         '<h1>'), 'asks for https')],
    ids=['script', 'console', 'torn', 'small', 'wide', 'net'])
def test_faults_are_seen(browser, pages, tmp_path, spoil, says):
    text = pages['digits'].read_text('utf-8')
    assert spoil(text) != text
    (tmp_path/'bad.html').write_text(spoil(text), 'utf-8')
    found = faults(browser.page(tmp_path/'bad.html', width=390))
    assert any(says in f for f in found), json.dumps(found)
