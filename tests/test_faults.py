"""Killed, full, torn, hostile: nothing is lost and nothing silently wrong.

Every test says how often it tried; `pytest -m slow` tries more often. With
AFD_RELIABILITY=FILE.csv the counts go there, for the page `46_reliability`.
"""
import dataclasses
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
from functools import cache

import numpy as np
import pytest
import torch

from afd_nb.method.data import load_data
from afd_nb.support.splits import take
from afd_nb.robustness.evaluation import evaluate
from afd_nb.method.networks import create_model
from afd_nb.method.network_files import (read_model, load_official,
                                         read_weights, save_model)
from afd_nb.method.recipe import Recipe
from afd_nb.robustness.records import make_record, read_record
from afd_nb.robustness.record_updates import save_record
from afd_nb.method.training import fit
from afd_nb.method.run_folder import load_run
from afd_nb.support.run_records import read_state

TINY = Recipe(epochs=3, n_train=96, n_valid=20, batch_size=32, steps=2,
              valid_steps=1)
LONG = dataclasses.replace(TINY, epochs=30)
SLOW = pytest.mark.slow
FILES = 'history.csv', 'best.safetensors', 'last.safetensors'
as_dict = dataclasses.asdict


def to_plain(v):
    "Tensors as bytes, so that two states can be compared."
    if isinstance(v, torch.Tensor):
        return str(v.dtype), tuple(v.shape), v.contiguous().numpy().tobytes()
    if isinstance(v, dict): return {k: to_plain(w) for k, w in v.items()}
    return [*map(to_plain, v)] if isinstance(v, (list, tuple)) else v


def contents(run):
    "All that a run is: files byte by byte, and the state but its clock."
    state = to_plain(read_state(run/'state.pt'))
    del state['seconds']
    return {n: (run/n).read_bytes() for n in FILES} | state


def undisturbed(children, folder, recipe):
    "A run that nobody disturbed."
    children.finish(folder/'log', 'train', as_dict(recipe),
                    str(folder/'run'))
    return folder/'run'


@pytest.fixture(scope='module')
def whole(children, tmp_path_factory):
    "Thirty short epochs, what stopped and resumed ones are held against."
    return undisturbed(children, tmp_path_factory.mktemp('whole'), LONG)


@pytest.fixture(scope='module')
def small(children, tmp_path_factory):
    "Three epochs, to be copied and spoilt."
    return undisturbed(children, tmp_path_factory.mktemp('small'), TINY)


def kill_often(children, log, times, longest, seed, name, *args):
    "So many kills at random moments, then the rest; how many hit."
    g, kills = random.Random(seed), 0
    for _ in range(times):
        child = children.start(log, name, *args)
        child.wait(g.uniform(0, longest))
        if child.kill() != -signal.SIGKILL: # it was through before
            assert child.code == 0, child.said()
            break
        kills += 1
    children.finish(log, name, *args)
    return kills


# ---------------------------------------------------------------- killed

@pytest.mark.parametrize('seed', [0, *(pytest.param(s, marks=SLOW)
                                       for s in range(1, 10))])
def test_training_killed_twenty_times(seed, children, whole, tmp_path, tally):
    run = tmp_path/'run'
    epoch = json.loads((whole/'record.json').read_text())['seconds']/30
    kills = kill_often(children, tmp_path/'log', 20, .1 + 1.6*epoch, seed,
                       'train', as_dict(LONG), str(run))
    assert kills == 20, 'it ended too early'
    assert contents(run) == contents(whole)
    tally('training is killed at random moments', 'SIGKILL, resumed; weights,'
          ' history, optimisers and random state equal bit by bit', kills)


@pytest.mark.parametrize('every', [8, pytest.param(1, marks=SLOW)])
def test_training_killed_at_a_write(every, children, small, tmp_path, tally):
    said = children.finish(tmp_path/'log', 'die_at', 0, 'train',
                           as_dict(TINY), str(tmp_path/'a'))
    events, kills = int(said.split()[-1]), 0
    assert events >= 3*(2 + 4*3 + 1) # files: flush, rename, flush the folder
    for k in range(1, events + 1, every):
        run = tmp_path/f'at{k}'
        child = children.start(tmp_path/'log', 'die_at', k, 'train',
                               as_dict(TINY), str(run))
        assert child.wait(120) == -signal.SIGKILL, child.said()
        kills += 1
        children.finish(tmp_path/'log', 'train', as_dict(TINY), str(run))
        assert contents(run) == contents(small), f'killed at write {k}'
        assert not [*run.glob('.*.part')], f'killed at write {k}'
    tally('training is killed while it writes', 'SIGKILL at each flush and '
          'rename in turn, resumed; equal bit by bit, no litter', kills)


@pytest.fixture(scope='module')
def by_command(children, small, tmp_path_factory):
    "What a command gives that nobody disturbed: its folder and its words."
    @cache
    def f(name): # afd_evaluate's sweep, or an experiment
        folder = tmp_path_factory.mktemp('undisturbed')
        said = children.finish(folder/'log', 'shell', *command(
            name, small, folder/'whole'))
        return folder/'whole', said
    return f


def command(name, small, to):
    "The words of the sweep on `small`, or of an experiment."
    if name == 'afd_evaluate':
        return name, [str(small), *SWEEP, '--store', str(to)]
    return 'afd_experiment', [name, '--size', 'smoke', '--device', 'cpu',
                              '--runs', str(to)]


def rows(store):
    "What is known of each evaluation, example by example."
    return {f.name: {k: v.tobytes() for k, v in np.load(f).items()}
            for f in sorted(store.glob('*.npz'))}


SWEEP = ('--attacks pgd apgd-ce ddn --n 60 --batch_size 10 --eps 0 .1 .2 '
         '--steps 10 --device cpu').split()


@pytest.mark.parametrize('times', [5, pytest.param(40, marks=SLOW)])
def test_sweep_killed(times, children, small, by_command, tmp_path, tally):
    whole, wanted = by_command('afd_evaluate')
    kills = left = 0
    while kills < times: # a fresh sweep when one is through
        left += 1
        shutil.rmtree(tmp_path/'killed', ignore_errors=True)
        kills += kill_often(children, tmp_path/'log', times - kills, 1.,
                            left, 'shell', *command(
                                'afd_evaluate', small, tmp_path/'killed'))
        assert (tmp_path/'log').read_text() == wanted
        assert rows(tmp_path/'killed') == rows(whole)
        assert left < 10*times
    tally('an evaluation sweep is killed', 'SIGKILL, the same command again;'
          ' every answer equal', kills)


@pytest.mark.parametrize('name, times', [ # trained and attacked; and all
    pytest.param('mnist-afd-lr0.1-0.5', 4, marks=pytest.mark.long),
    pytest.param('mnist-nt', 20, marks=SLOW)])
def test_experiment_killed(name, times, children, small, by_command,
                           tmp_path, tally):
    def found(runs):
        (f,) = (runs/'records').rglob('*.json')
        rec = read_record(f)
        del rec['seconds'] # the only thing that may differ
        return json.dumps(rec, sort_keys=True)
    whole, _ = by_command(name)
    kills = left = 0
    while kills < times:
        left += 1
        shutil.rmtree(tmp_path/'killed', ignore_errors=True)
        kills += kill_often(children, tmp_path/'log', times - kills, 15.,
                            left, 'shell', *command(
                                name, small, tmp_path/'killed'))
        assert found(tmp_path/'killed') == found(whole)
        assert left < 10*times
    tally('afd_experiment and its jobs are killed', 'SIGKILL, the same '
          'command again; the record equal but for its seconds', kills)


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_stopped_between_two_steps(how, children, whole, tmp_path, tally):
    run = tmp_path/'run'
    flags = ('--epochs 30 --n_train 96 --n_valid 20 --batch_size 32 '
             '--steps 2 --valid_steps 1 --device cpu').split()
    child = children.start(tmp_path/'log', 'shell', 'afd_train',
                           ['--out', str(run), *flags])
    child.wait_for((run/'history.csv').exists)
    child.send(how)
    assert child.wait(60) == 128 + how, child.said()
    assert f'Go on with: afd_train --resume {run}' in child.said()
    assert len(load_run(run).history) < 30 # it loads as it is
    children.finish(tmp_path/'log', 'shell', 'afd_train',
                    ['--resume', str(run)])
    assert contents(run) == contents(whole)
    tally('Ctrl-C or SIGTERM', 'stops at the next step, says how to go on; '
          'equal bit by bit', 1)


@pytest.mark.parametrize('name', ['afd_evaluate', pytest.param(
    'mnist-afd-lr0.1-0.5', marks=pytest.mark.long)],
    ids=['afd_evaluate', 'afd_experiment'])
def test_sweep_stopped_between_two_batches(name, children, small, by_command,
                                           tmp_path, tally):
    found = tmp_path/'stopped'
    begun = lambda: found.exists() and (
        len([*found.glob('*.npz')]) > 1 # in the second attack
        or [*found.rglob('history.csv')])
    argv = command(name, small, found)
    child = children.start(tmp_path/'log', 'shell', *argv)
    child.wait_for(begun)
    child.send(signal.SIGTERM)
    assert child.wait(60) == 128 + signal.SIGTERM, child.said()
    assert 'ame command again' in child.said()
    done = {f: f.stat().st_mtime_ns for f in sorted(
        found.glob('*.npz'), key=lambda f: f.stat().st_mtime_ns)[:-1]}
    again = children.finish(tmp_path/'log', 'shell', *argv)
    whole, said = by_command(name)
    for f, when in done.items(): assert f.stat().st_mtime_ns == when
    if name == 'afd_evaluate':
        assert done # this one was not made again
        assert again == said and rows(found) == rows(whole)
    else:
        a, b = ({f.stem: read_record(f)['evaluations'] for f in
                 (runs/'records').rglob('*.json')}
                for runs in (found, whole))
        assert a == b and a
    tally('SIGTERM to a sweep or an experiment', 'exit status 143, says that '
          'the same command goes on; every answer equal', 1)


# ------------------------------------------------- whole or not at all

def cut_short(child, run, small, says):
    "It failed with one clear line; what it had loads, and can go on."
    assert child.wait(120) == 2, child.said()
    said = child.said().strip().splitlines()[-1]
    assert said.startswith('afd_train: ') and says in said, child.said()
    assert 'nothing was overwritten' in said
    before = load_run(run)
    assert 1 <= len(before.history) < 3
    fit(TINY, out=run, resume=True, device='cpu')
    assert contents(run) == contents(small)


def test_files_may_not_grow(children, small, tmp_path, tally):
    run = tmp_path/'run'
    child = children.start(tmp_path/'log', 'train_then', as_dict(TINY),
                           str(run), 4, 'limit', 10_000)
    cut_short(child, run, small, 'File too large')
    tally('a file may not grow', 'RLIMIT_FSIZE in mid-run: one line, the last'
          ' epoch loads, resumed bit by bit', 1)


def test_disk_is_full(children, small, tmp_path, tally):
    disk = tmp_path/'disk'
    disk.mkdir()
    mount = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m',
                            'tmpfs', str(disk)], capture_output=True)
    if mount.returncode:
        pytest.skip('a small disk cannot be mounted here')
    try:
        child = children.start(
            tmp_path/'log', 'train_then', as_dict(TINY), str(disk/'run'), 4,
            'fill', str(disk/'rest'))
        child.wait(120)
        (disk/'rest').unlink(missing_ok=True) # somebody tidies up
        cut_short(child, disk/'run', small, 'No space left on device')
    finally: subprocess.run(['umount', str(disk)], check=True)
    tally('the disk is full', 'a small disk is filled in mid-run: one line, '
          'the last epoch loads, resumed bit by bit', 1)


def test_folder_is_removed(children, tmp_path, tally):
    run = tmp_path/'run'
    child = children.start(tmp_path/'log', 'train_then', as_dict(TINY),
                           str(run), 4, 'remove')
    assert child.wait(120) == 2, child.said()
    assert f'{run}/' in child.said() and 'could not be written' in child.said()
    assert 'No such file or directory' in child.said()
    assert not run.exists() # nor is half of it made again
    tally("the run's folder is removed", 'in mid-run: one line', 1)


def let_in(folder, base):
    "Have everybody reach `folder` below `base`, pytest's own; or skip."
    for f in (folder, *folder.parents):
        if not f.is_relative_to(base): break
        os.chmod(f, 0o755)
    for f in base.parents:
        if os.geteuid() == 0 and not f.stat().st_mode & 0o001:
            pytest.skip(f'nobody but root can reach {f}')


def test_folder_is_read_only(children, small, tmp_path, tmp_path_factory,
                             tally):
    let_in(tmp_path, tmp_path_factory.getbasetemp().parent)
    run = tmp_path/'run'
    shutil.copytree(small, run)
    for f in (run, *run.iterdir()): os.chmod(f, 0o555 if f == run else 0o444)
    log = tmp_path/'log'
    os.chmod(tmp_path, 0o555)
    try:
        before = {f.name: f.read_bytes() for f in run.iterdir()}
        for out in (tmp_path/'new', run):
            child = children.start(log, 'train_as_nobody', as_dict(TINY),
                                   str(out))
            assert child.wait(120) == 2, child.said()
            assert 'ermission denied' in child.said()
            assert child.said().strip().count('\n') == 0
        assert {f.name: f.read_bytes() for f in run.iterdir()} == before
    finally:
        os.chmod(tmp_path, 0o755)
        os.chmod(run, 0o755)
    tally('the folder is read-only', 'new and existing run: one line, '
          'nothing is touched', 2)


def test_a_second_process_is_refused(children, whole, tmp_path, tally):
    run = tmp_path/'run'
    first = children.start(tmp_path/'log', 'train', as_dict(LONG), str(run))
    first.wait_for((run/'history.csv').exists)
    with pytest.raises(BlockingIOError, match='in use by another process'):
        fit(LONG, out=run, resume=True, device='cpu')
    second = children.start(tmp_path/'log2', 'shell', 'afd_train',
                            ['--resume', str(run), '--device', 'cpu'])
    assert second.wait(60) == 2 and 'in use' in second.said()
    assert first.kill() == -signal.SIGKILL # its lock goes with it
    children.finish(tmp_path/'log', 'train', as_dict(LONG), str(run))
    assert contents(run) == contents(whole)
    tally('two processes on one run', 'the second is refused, the first ends '
          'bit by bit as alone', 2)


# -------------------------------------------------- files from strangers

class Evil:
    "Unpickled, it would leave a file behind."
    def __init__(self, mark): self.mark = str(mark)
    def __reduce__(self): return open, (self.mark, 'w')


def spoilt(small, to, name, data):
    "A copy of the run with another content of one of its files."
    if to.exists(): shutil.rmtree(to)
    shutil.copytree(small, to)
    (to/name).write_bytes(data)
    return to


def test_a_pickle_never_runs(small, tmp_path, tally):
    mark = tmp_path/'it-ran'
    evil = [pickle.dumps(Evil(mark))]
    torch.save({'E_state_dict': Evil(mark), 'Dc_state_dict': {}},
               tmp_path/'evil.pt')
    evil.append((tmp_path/'evil.pt').read_bytes())
    np.savez(tmp_path/'evil.npz', by=np.array([Evil(mark)], object))
    evil.append((tmp_path/'evil.npz').read_bytes())
    pickle.loads(evil[0]).close() # the pickle does what it should
    assert mark.exists()
    mark.unlink()
    x, y = take(load_data('digits').test, 20)
    net = load_run(small).model
    evaluate(net, x, y, attack='apgd-ce', epsilons=[.1], store=tmp_path/'s')
    (stored,) = (tmp_path/'s').glob('*.npz')
    times = 0
    for data in evil:
        (tmp_path/'x.pt').write_bytes(data)
        stored.write_bytes(data)
        for f, name in [
                (lambda: load_official(tmp_path/'x.pt', dataset='mnist'),
                 'x.pt'),
                (lambda: read_model(tmp_path/'x.pt'), 'x.pt'),
                (lambda: read_state(tmp_path/'x.pt'), 'x.pt'),
                (lambda: read_record(tmp_path/'x.pt'), 'x.pt'),
                (lambda: load_run(spoilt(small, tmp_path/'r',
                                         'best.safetensors', data)),
                 'best.safetensors'),
                (lambda: fit(TINY, out=spoilt(small, tmp_path/'r',
                         'state.pt', data), resume=True), 'state.pt'),
                (lambda: evaluate(net, x, y, attack='apgd-ce',
                                  epsilons=[.1], store=tmp_path/'s'),
                 stored.name)]:
            with pytest.raises(ValueError, match=name): f()
            assert not mark.exists()
            times += 1
    tally('a pickle that would run code', 'as weights, state, checkpoint, '
          'record, stored evaluation: refused, did not run', times)


@pytest.fixture(scope='module')
def files(small, tmp_path_factory):
    "name -> (its folder, what reads it and shows all that was read)."
    d = tmp_path_factory.mktemp('files')
    shutil.copytree(small, d/'run')
    run = load_run(d/'run')
    x, y = take(load_data('digits').test, 20)
    e = evaluate(run.model, x, y, attack='apgd-ce', epsilons=[0., .1],
                 store=d/'store')
    save_record(make_record(run, [e]), d)
    def whole_run():
        r = load_run(d/'run')
        return (r.recipe, r.history.to_csv(), r.record,
                to_plain(dict(r.model.state_dict())))
    def stored():
        e = evaluate(run.model, x, y, attack='apgd-ce', epsilons=[0., .1],
                     store=d/'store')
        return e.robust.tobytes(), e.epsilons
    return {
        'recipe.json': (d/'run', whole_run),
        'history.csv': (d/'run', whole_run),
        'record.json': (d/'run', whole_run),
        'best.safetensors': (d/'run', whole_run),
        'state.pt': (d/'run', lambda: to_plain(read_state(d/'run/state.pt'))),
        'seed0.json': (d/'digits'/'afd', lambda: read_record(
            d/'digits'/'afd'/'seed0.json')),
        next((d/'store').glob('*.npz')).name: (d/'store', stored)}


def refused_or_same(read, want, file, data, what):
    "An error that names the file, or what was written; True if an error."
    file.write_bytes(data)
    try: got = read()
    except (ValueError, FileNotFoundError) as e:
        assert file.name in str(e) or 'recipe.json' in str(e), (what, e)
        return True
    assert got == want, f'{file.name}, {what}: read something else'
    return False


@pytest.mark.parametrize('times', [25, pytest.param(200, marks=SLOW)])
@pytest.mark.parametrize('which', range(7))
def test_flipped_bits_and_lost_ends(which, times, files, tally):
    name = [*files][which]
    folder, read = files[name]
    file, g, seen = folder/name, random.Random(which), 0
    good, want = file.read_bytes(), read()
    try:
        for _ in range(times):
            k, bent = g.randrange(8*len(good)), bytearray(good)
            bent[k//8] ^= 1 << k % 8
            seen += refused_or_same(read, want, file, bytes(bent), f'bit {k}')
        for _ in range(times):
            k = g.randrange(len(good))
            seen += refused_or_same(read, want, file, good[:k], f'cut at {k}')
    finally: file.write_bytes(good)
    assert seen > times # zip files have bytes that nobody reads
    kind = 'stored evaluation' if name.endswith('npz') else name
    tally(f'{kind} with a flipped bit or without its end', 'refused by an '
          'error that names it, or (a byte without meaning) read the same',
          2*times)


@pytest.mark.parametrize('data', [b'', b'\0'*1000, b'null', b'[]', b'{}',
                                  b'"text"', b'\xff\xfe\x00', b'1e999',
                                  b'[[[[[[' * 20000],
                         ids=['empty', 'zeros', 'null', 'list', 'object',
                              'text', 'bytes', 'number', 'deep'])
def test_foreign_content(data, files, tally):
    for name, (folder, read) in files.items():
        file = folder/name
        good, want = file.read_bytes(), read()
        try: assert refused_or_same(read, want, file, data, 'foreign'), name
        finally: file.write_bytes(good)
    tally('another content in any of these files', 'refused by an error that '
          'names it', len(files))


def test_oversized_files(small, tmp_path, tally):
    f = tmp_path/'big.json'
    with open(f, 'wb') as h: h.truncate(10**9) # sparse: takes no room
    with pytest.raises(ValueError, match='big.json has 1000000000 bytes'):
        read_record(f)
    run = spoilt(small, tmp_path/'run', 'recipe.json', b'')
    with open(run/'recipe.json', 'wb') as h: h.truncate(10**8)
    with pytest.raises(ValueError, match='recipe.json has 100000000 bytes'):
        load_run(run)
    tally('an oversized file', 'refused before it is read', 2)


def test_weights_of_another_shape(small, tmp_path, tally):
    run = tmp_path/'run'
    shutil.copytree(small, run)
    other = create_model('small', (1, 8, 8), 7)
    save_model(other, run/'best.safetensors')
    with pytest.raises(ValueError, match='says nothing of a training'):
        load_run(run)
    history = load_run(small).history.to_dict('records')
    save_model(other, run/'best.safetensors', recipe=as_dict(TINY),
               history=history)
    with pytest.raises(ValueError, match='is not the file that'):
        load_run(run)
    x, y = take(load_data('digits').test, 20)
    with pytest.raises(ValueError, match='7'): # labels up to 9
        evaluate(other, x, y, epsilons=[.1])
    broken = dict(E_state_dict={'conv1.weight': torch.zeros(1)},
                  Dc_state_dict={})
    torch.save(broken, tmp_path/'x.pt')
    with pytest.raises(ValueError, match='x.pt does not fit'):
        load_official(tmp_path/'x.pt', dataset='mnist',
                      normalize_features=False)
    torch.save(dict(E_state_dict=[1], Dc_state_dict={}), tmp_path/'x.pt')
    with pytest.raises(ValueError, match='x.pt: E_state_dict is not a dict'):
        load_official(tmp_path/'x.pt', dataset='mnist')
    tally('weights of another shape, number of classes or training',
          'refused with names and shapes', 5)


def test_broken_images(tmp_path, tally):
    from PIL import Image
    good = np.zeros((8, 8), 'u1')
    for part in ('train', 'test'):
        for k in 'ab':
            (tmp_path/part/k).mkdir(parents=True)
            for i in range(8):
                Image.fromarray(good).save(tmp_path/part/k/f'{i}.png')
    bad = tmp_path/'train'/'a'/'3.png'
    whole = bad.read_bytes()
    bomb = bytearray(whole)
    bomb[16:24] = (60000).to_bytes(4, 'big')*2 # it says 60000 x 60000
    import zlib
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, 'big')
    for data in (b'', b'no image', whole[:len(whole)//2], bytes(bomb)):
        bad.write_bytes(data)
        for stream in (False, True):
            with pytest.raises(ValueError, match='3.png'):
                d = load_data('folder', root=tmp_path, stream=stream)
                take(d.train)
                take(d.valid)
    tally('broken images in a folder', 'empty, no image, cut, a bomb of '
          '60000 x 60000: an error that names the file', 8)


# ------------------------------------------------------------ the same bits

def test_any_number_of_workers(tmp_path, tally):
    from afd_nb.tools.experiment_graph import (graph_options,
                                               stand_in_images)
    stand_in_images(**graph_options(dict(names=['mnist-at'], size='smoke',
                                         runs=str(tmp_path))))
    root = tmp_path/'images'/'mnist'
    r = Recipe(dataset='folder', network='small', method='at', epochs=2,
               n_train=96, n_valid=32, batch_size=32, steps=2, valid_steps=1,
               eps=.1, augment=True)
    made = []
    for stream, workers in ((False, 0), (True, 0), (True, 1), (True, 3)):
        data = load_data('folder', root=root, n_train=96, n_valid=32,
                         stream=stream, workers=workers)
        run = fit(r, data, device='cpu')
        made.append(to_plain(dict(run.model.state_dict())))
    assert all(m == made[0] for m in made)
    tally('any number of data workers', 'in memory, 0, 1, 3: the same bits',
          4)


def test_any_order_of_runs(tally):
    recipes = [dataclasses.replace(TINY, method=m, settings=None) for m in
               ('afd', 'nt', 'trades', 'at')]
    def bits(r): return to_plain(dict(fit(r, device='cpu')
                                      .model.state_dict()))
    alone = [bits(r) for r in recipes]
    for order in ((3, 1, 0, 2), (2, 0, 3, 1)):
        torch.rand(7) # whatever somebody did before
        np.random.rand(3)
        for k in order: assert bits(recipes[k]) == alone[k]
    tally('any order of runs in one process', 'four methods, three orders: '
          'the same bits', 12)


def test_a_record_says_where_it_was_made(small, tmp_path, tally):
    rec = load_run(small).record
    assert rec['device'].startswith('cpu (') and 'threads' in rec['device']
    assert {*rec['versions']} - {'commit'} == {
        'python', 'afd_nb', 'torch', 'torchvision', 'numpy', 'foolbox',
        'advertorch', 'pyautoattack'}
    fit(TINY, out=tmp_path/'run', keep=1, device='cpu')
    rec = load_run(tmp_path/'run').record
    sums = {f.relative_to(tmp_path/'run').as_posix():
            read_weights(f)[1]['checksum']
            for f in (tmp_path/'run').rglob('*.safetensors')}
    assert len(sums) == 5 # best, last, three epochs
    assert sums == rec['files'] | {'best.safetensors': rec['weights']}
    tally('where was it made, and which weights are they', 'the record says '
          'processor, versions and the checksum of each weight file', 2)
