"Commands as a shell starts them: interrupted, resumed, refused."
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from afd_nb.tools.commands import afd_train

BIN = Path(sys.executable).parent
FLAGS = ('--method afd --epochs 4 --n_train 256 --batch_size 32 --steps 3 '
         '--valid_steps 3 --device cpu').split()


def train(*more):
    "A process that Ctrl-C reaches, even if pytest runs in the background."
    return subprocess.Popen(
        [BIN/'afd_train', *more], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


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
def fresh(tmp_path_factory):
    "A run that nobody disturbed, as a shell starts it; what it said."
    run = tmp_path_factory.mktemp('whole')/'run'
    p = train('--out', str(run), *FLAGS)
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err
    return run, out, err


@pytest.fixture(scope='module')
def whole(fresh):
    return fresh[0]


def test_a_forked_command_is_that_of_a_shell(fresh, children, tmp_path):
    "Other tests fork: the same bits, words and exit status."
    whole, out, err = fresh
    log, run = tmp_path/'log', tmp_path/'run'
    said = children.finish(log, 'shell', 'afd_train', ['--out', str(run),
                                                       *FLAGS])
    assert said == (out + err).replace(str(whole), str(run))
    assert contents(run) == contents(whole)
    assert {f.name for f in run.iterdir()} == {
        f.name for f in whole.iterdir()}
    again = ['--out', str(run), *FLAGS]
    p = train(*again)
    out, err = p.communicate(timeout=300)
    child = children.start(log, 'shell', 'afd_train', again)
    assert child.wait(60) == p.returncode == 2
    assert child.said() == out + err and 'is not empty' in err


def test_ctrl_c_and_resumed_gives_the_same_bits(whole, children, tmp_path):
    run = tmp_path/'run'
    p = train('--out', str(run), *FLAGS)
    wait_for_epoch(run, p)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130, err
    assert f'afd_train --resume {run}' in err
    children.finish(tmp_path/'log', 'shell', 'afd_train',
                    ['--resume', str(run)])
    assert contents(run) == contents(whole)


def test_bad_input_is_one_line_and_nothing_is_written(whole, tmp_path,
                                                      capsys):
    before = contents(whole)
    for more, says in [
            (['--out', str(whole), *FLAGS], 'is not empty'),
            (['--out', str(tmp_path/'a'), '--batch_size', '9999'],
             'batch_size=9999'),
            (['--out', str(tmp_path/'b'), '--device', 'cuda:99'], 'cuda:99'),
            (['--resume', str(tmp_path/'c')], 'no run to resume')]:
        with pytest.raises(SystemExit, match='2'): afd_train(more)
        err = capsys.readouterr().err
        assert says in err and err.count('\n') == 1, err
    assert contents(whole) == before
    assert not list(tmp_path.iterdir())
