"afd_experiment at its smallest: 100 classes, twice."
import json
import shutil

import pytest

from afd_nb.results.experiments import all_experiments, recorded
from afd_nb.tools.experiments_command import afd_experiment
from afd_nb.robustness.records import read_record, record_text


def commands(said, word):
    "The commands that were announced as `done` or `to do`."
    return [line.split(maxsplit=2 if word == 'to do' else 1)[-1].split()[0]
            for line in said.splitlines() if line.startswith(word)]


@pytest.mark.filterwarnings('ignore::afd_nb.support.training_monitor.TrainingWarning')
def test_smoke_on_images_shaped_like_cifar100(tmp_path, capsys):
    call = ['cifar100-afd', '--size', 'smoke', '--device', 'cpu', '--runs',
            str(tmp_path/'runs')]
    afd_experiment(['cifar100-nt', *call, '--dry-run'])
    assert not (tmp_path/'runs').exists()
    one = lambda k: ['afd_train'] + ['afd_evaluate']*k + ['afd_diagnose']
    plan = one(3) # AFD is also attacked on held-out images
    assert commands(capsys.readouterr().out, 'to do') == one(2) + plan
    afd_experiment(call)
    assert commands(capsys.readouterr().out, 'to do') == plan
    records = sorted((tmp_path/'runs'/'records'/'cifar100').rglob('*.json'))
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
    weights = tmp_path/'runs'/'cifar100'/'afd'/'seed0'/'best.safetensors'
    before = weights.stat().st_mtime_ns
    afd_experiment(call) # all is recorded
    assert commands(capsys.readouterr().out, 'done') == plan
    assert weights.stat().st_mtime_ns == before
    rec = read_record(records[0]) # as if stopped before ddn
    rec['evaluations'] = [e for e in rec['evaluations']
                          if e['attack'] != 'ddn']
    records[0].write_text(record_text(rec))
    afd_experiment(call)
    assert commands(capsys.readouterr().out, 'to do') == ['afd_evaluate']
    assert weights.stat().st_mtime_ns == before


def test_nothing_is_trained_for_a_record_that_takes_no_rows(tmp_path, capsys):
    folder = tmp_path/'kept'/'mnist'/'at'
    folder.mkdir(parents=True)
    shutil.copy('results/old/mnist/at/seed0.json', folder)
    call = ['mnist-at', '--runs', str(tmp_path/'runs'), '--records',
            str(tmp_path/'kept')]
    with pytest.raises(SystemExit): afd_experiment(call)
    said = capsys.readouterr()
    assert 'image-by-image' in said.err and 'to do' not in said.out
    assert not (tmp_path/'runs').exists()
    afd_experiment([*call, '--dry-run'])
    todo = commands(capsys.readouterr().out, 'to do')
    assert todo == ['afd_train', 'afd_evaluate', 'afd_evaluate']


def test_records_go_beside_the_runs(tmp_path, capsys):
    afd_experiment(['mnist-nt', '--runs', str(tmp_path), '--dry-run'])
    said = capsys.readouterr().out
    assert 'done' not in said and f'--record {tmp_path}/records' in said


def test_a_record_of_another_training_is_refused(tmp_path):
    e = all_experiments()['mnist-afd']
    p = tmp_path/'mnist'/'afd'/'seed0.json'
    p.parent.mkdir(parents=True)
    with open('results/old/mnist/afd/seed0.json') as f: rec = json.load(f)
    p.write_text(json.dumps(rec))
    assert recorded(e, 'short', 0, tmp_path)['best_epoch'] > 0
    with pytest.raises(ValueError, match='another training'):
        recorded(e, 'paper', 0, tmp_path)
