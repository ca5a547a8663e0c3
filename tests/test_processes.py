"Commands as a shell starts them: interrupted, resumed, refused."
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
FLAGS = ('--method afd --epochs 4 --n_train 256 --batch_size 32 --steps 3 '
         '--valid_steps 3 --device cpu').split()


def start(*command):
    "A process that Ctrl-C reaches, even if pytest runs in the background."
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def train(*more):
    return start(BIN/'afd_train', *more)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def wait_for_epoch(run, process, seconds=120):
    "Until the first epoch is on disk."
    end = time.monotonic() + seconds
    while not (run/'history.csv').exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, 'no epoch was finished in time'
        time.sleep(.02)


def contents(run):
    return {n: (run/n).read_bytes() for n in
            ('history.csv', 'best.safetensors', 'last.safetensors')}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run that nobody disturbed."
    run = tmp_path_factory.mktemp('whole')/'run'
    finish(train('--out', str(run), *FLAGS))
    return run


def test_ctrl_c_and_resumed_gives_the_same_bits(whole, tmp_path):
    run = tmp_path/'run'
    p = train('--out', str(run), *FLAGS)
    wait_for_epoch(run, p)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130, err
    assert f'afd_train --resume {run}' in err
    finish(train('--resume', str(run)))
    assert contents(run) == contents(whole)


def test_another_process_gets_the_same_bits(whole, tmp_path):
    finish(train('--out', str(tmp_path/'run'), *FLAGS))
    assert contents(tmp_path/'run') == contents(whole)


def test_bad_input_is_one_line_and_nothing_is_written(whole, tmp_path):
    before = contents(whole)
    for more, says in [
            (['--out', str(whole), *FLAGS], 'is not empty'),
            (['--out', str(tmp_path/'a'), '--batch_size', '9999'],
             'batch_size=9999'),
            (['--out', str(tmp_path/'b'), '--device', 'cuda:99'], 'cuda:99'),
            (['--resume', str(tmp_path/'c')], 'no run to resume')]:
        p = train(*more)
        _, err = p.communicate(timeout=120)
        assert p.returncode == 2
        assert says in err and err.count('\n') == 1, err
    assert contents(whole) == before
    assert not list(tmp_path.iterdir())


def evaluate(run, store):
    return start(
        BIN/'afd_evaluate', run, '--attacks', 'pgd', 'apgd-ce', 'ddn',
        '--n', '80', '--batch_size', '10', '--eps', '0', '.1', '.2',
        '--steps', '40', '--store', store)


def test_a_stopped_sweep_goes_on_where_it_was(whole, tmp_path):
    wanted = finish(evaluate(whole, tmp_path/'in-one-go'))
    store, end = tmp_path/'stopped', time.monotonic() + 120
    p = evaluate(whole, store)
    while not list(store.glob('apgd-ce*.npz')): # in the second attack
        assert p.poll() is None and time.monotonic() < end
        time.sleep(.01)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and 'same command again' in err, err
    (first,) = store.glob('pgd*.npz')
    before = first.read_bytes(), first.stat().st_mtime_ns
    assert finish(evaluate(whole, store)) == wanted
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before
