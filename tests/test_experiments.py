"afd_experiment at its smallest: 100 classes, twice; and a whole graph."
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from afd_nb.results.experiments import all_experiments
from afd_nb.results.choice import recorded
from afd_nb.robustness.records import read_record
from afd_nb.tools.experiments_command import afd_experiment

ROOT = Path(__file__).resolve().parent.parent


def commands(capfd):
    "The jobs that ran or would run, in alphabetical order."
    said = ''.join(capfd.readouterr())
    return sorted(re.findall(r'^Shell command: .*?(afd_[a-z]+) (?!--resume)',
                             said, re.M))


ONE = ['afd_evaluate']*3 + ['afd_diagnose', 'afd_train', 'afd_report']


@pytest.fixture
def here(tmp_path, monkeypatch):
    "A folder to work in."
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_smoke_on_images_shaped_like_cifar100(here, capfd):
    call = ['cifar100-afd', '--size', 'smoke', '--device', 'cpu',
            '--threads', '1']
    afd_experiment(['cifar100-nt', *call, '--dry-run'])
    assert not (here/'runs').exists()
    both = sorted(2*ONE) # but for a page and the held-out images of one
    both.remove('afd_evaluate'), both.remove('afd_report')
    assert commands(capfd) == both
    afd_experiment(call)
    assert commands(capfd) == sorted(ONE)
    records = sorted((here/'runs'/'records'/'cifar100').rglob('*.json'))
    assert [p.parent.name for p in records] == ['afd']
    rec = read_record(records[0])
    assert rec['recipe']['dataset'] == 'folder'
    assert {'pgd', 'fgsm', 'ddn'} <= {
        e['attack'] for e in rec['evaluations']}
    assert {(e['split'], e['order']) for e in rec['evaluations']} == {
        ('test', 'shuffled-0'), ('valid', 'shuffled-0')}
    assert all(len(e['answers']) == -(-e['n']//4)
               for e in rec['evaluations'])
    assert len(rec['diagnosis']) > 5
    assert (here/'runs/records/cifar100/report.html').stat().st_size > 1e4
    weights = here/'runs'/'cifar100'/'afd'/'seed0'/'best.safetensors'
    before = weights.stat().st_mtime_ns
    afd_experiment(call) # all is done
    assert commands(capfd) == []
    done = here/'runs'/'done'/'cifar100'/'afd'/'seed0'
    (done/'asked-fgsm-ddn-eps-.3').unlink() # as if stopped in it
    afd_experiment(call)
    assert commands(capfd) == ['afd_evaluate', 'afd_report']
    assert weights.stat().st_mtime_ns == before
    key = lambda e: (e['split'], e['attack'], e['eps'])
    again = read_record(records[0])
    assert (sorted(again['evaluations'], key=key)
            == sorted(rec['evaluations'], key=key))


@pytest.mark.long
def test_the_whole_graph_of_a_data_set(here, capfd):
    afd_experiment(['mnist', '--size', 'smoke', '--device', 'cpu', '--seeds',
                    '2', '--threads', '1', '--omit-from', 'evaluate',
                    'diagnose']) # which the test above has
    home = here/'runs'/'records'/'mnist'
    assert {'afd_train', 'afd_analyse', 'afd_transfer'} == {
        *commands(capfd)}
    for f in ('transfer.csv', 'analyses/sensitivity.csv',
              'analyses/over_training.csv', 'analyses/seeds/dimensions.csv'):
        assert (home/'mnist'/f).exists(), f


def test_a_clone_shows_the_whole_paper():
    done = subprocess.run([sys.executable, '-m', 'snakemake', '-n', '--quiet',
                           'host'], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    jobs = dict(re.findall(r'^(\w+) +(\d+)$', done.stdout + done.stderr,
                           re.M))
    from afd_nb.tools.experiment_graph import graph, graph_options
    assert int(jobs['total']) == len(graph(**graph_options({}))) + 1
    assert int(jobs['train']) == len(all_experiments())


def test_nothing_is_trained_for_a_record_that_takes_no_rows(here, capfd):
    folder = here/'kept'/'mnist'/'at'
    folder.mkdir(parents=True)
    shutil.copy(ROOT/'results/old/mnist/at/seed0.json', folder)
    with pytest.raises(SystemExit) as e:
        afd_experiment(['mnist-at', '--records', 'kept'])
    assert e.value.code == 2
    said = capfd.readouterr()
    assert 'image-by-image' in said.err and 'afd_train' not in said.err
    assert not (here/'runs').exists()


def test_records_go_beside_the_runs(here, capfd):
    afd_experiment(['mnist-nt', '--runs', str(here/'mine'), '--dry-run'])
    assert f"--record {here/'mine'}/records" in ''.join(capfd.readouterr())


def test_without_snakemake_it_says_what_to_install(here, monkeypatch, capsys):
    from afd_nb.tools import experiments_command
    monkeypatch.setattr(experiments_command, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit): afd_experiment(['mnist-nt'])
    assert "pip install 'afd_nb[paper]'" in capsys.readouterr().err


def test_a_failed_job_fails_the_command(here, capfd):
    with pytest.raises(SystemExit) as e:
        afd_experiment(['mnist-nt', '--root', 'nowhere', '--size', 'short'])
    assert e.value.code == 1
    assert 'nowhere' in capfd.readouterr().err
    assert not [*here.rglob('trained')]


def test_a_record_of_another_training_is_refused(tmp_path):
    e = all_experiments()['mnist-afd']
    p = tmp_path/'mnist'/'afd'/'seed0.json'
    p.parent.mkdir(parents=True)
    with open(ROOT/'results/old/mnist/afd/seed0.json') as f: rec = json.load(f)
    p.write_text(json.dumps(rec))
    assert recorded(e, 'short', 0, tmp_path)['best_epoch'] > 0
    with pytest.raises(ValueError, match='another training'):
        recorded(e, 'paper', 0, tmp_path)
