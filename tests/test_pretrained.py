"Networks and images that come with the package."
import subprocess
import sys
import zipfile
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch

from afd_nb import create_model, evaluate, load_model, load_sample, model_names
from afd_nb.method.networks import Classifier
from afd_nb.support.curves import unpack_answers
from afd_nb.robustness.records import read_record
from afd_nb.support.tables import results_folder
from afd_nb.tools.command_line import load_target
from afd_nb.tools.run_commands import afd_evaluate

ROOT = Path(__file__).resolve().parent.parent
NAMES = [f'mnist-{m}' for m in ('afd', 'at', 'nt', 'rm', 'trades')]


def recorded(name, eps):
    "Who is right by the record of PGD, 1,000 images."
    method = name.removeprefix('mnist-')
    rec = read_record(results_folder()/f'mnist/{method}/seed0.json')
    row, = (r for r in rec['evaluations'] if r['attack'] == 'pgd'
            and r['eps'] == eps and r['settings']['restarts'] == 3
            and r['n'] == 1000)
    return unpack_answers(row['answers'], row['n'])


def test_names():
    assert model_names() == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_recorded_answers_come_again(name):
    model, s = load_model(name), load_sample('mnist', 1000)
    with torch.no_grad(): clean = model(s.x).argmax(1) == s.y
    off = (recorded(name, 0.) != clean.numpy()).sum()
    assert off <= 1 # of 1,000; another processor rounds otherwise
    few = load_sample('mnist', 40)
    e = evaluate(model, few, epsilons=[.3], steps=40, restarts=3)
    assert (recorded(name, .3)[:40] != e.robust[:, 0]).sum() <= 1


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_recorded_counts_come_again(name):
    e = evaluate(load_model(name), load_sample('mnist', 1000),
                 epsilons=[0., .3], steps=40, restarts=3)
    for eps, right in zip(e.epsilons, e.robust.T):
        assert abs(recorded(name, eps).sum() - right.sum()) <= 1


def test_they_are_in_the_wheel(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'build', '--wheel', '--no-isolation',
         '--outdir', tmp_path, ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wheel, = tmp_path.glob('*.whl')
    inside = zipfile.ZipFile(wheel).namelist()
    for name in NAMES:
        assert f'afd_nb/pretrained/{name}.safetensors' in inside
    assert 'afd_nb/pretrained/mnist-sample.npz' in inside


@pytest.fixture
def hub(monkeypatch, tmp_path):
    "Hugging Face's hub as a folder; what was asked of it."
    asked = []
    class Api:
        def __init__(self, token): asked.append(('token', token))
        def create_repo(self, name, private, exist_ok):
            asked.append((name, private, exist_ok))
            return f'hub/{name}'
        def upload_folder(self, repo_id, folder_path, commit_message):
            to = tmp_path/repo_id
            to.mkdir(parents=True)
            for f in Path(folder_path).iterdir():
                (to/f.name).write_bytes(f.read_bytes())
    def download(name, file, **where):
        asked.append(where)
        return str(tmp_path/name/file)
    monkeypatch.setattr(huggingface_hub, 'HfApi', Api)
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    return asked


def test_to_the_hub_and_back(hub, tmp_path):
    model = create_model('small', (1, 8, 8), 10, seed=3).eval()
    assert model.push_to_hub('me/net', private=True, token='t') == 'hub/me/net'
    assert hub == [('token', 't'), ('me/net', True, True)]
    again = Classifier.from_pretrained('me/net', revision='v1')
    assert hub[-1] == dict(revision='v1') and not again.training
    x = torch.rand(2, 1, 8, 8)
    assert again(x).equal(model(x))
    assert Classifier.from_pretrained(tmp_path/'me'/'net')(x).equal(model(x))
    with pytest.raises(FileNotFoundError): Classifier.from_pretrained(tmp_path)


def test_a_command_takes_a_name(capsys):
    afd_evaluate(['mnist-nt', 'mnist-at', '--attacks', 'fgsm', '--n', '50'])
    lines = capsys.readouterr().out.splitlines()
    rows = [v.split() for v in lines[1:5]]
    assert [r[0] for r in rows] == ['mnist-nt']*2 + ['mnist-at']*2
    right = {(r[0], float(r[4])): float(r[6]) for r in rows}
    assert right['mnist-nt', .3] < right['mnist-at', .3]
    for argv, said in ((['mnist-nt', '--n', '1001'], 'n=1001'),
                       (['mnist-nt', '--record', 'x'], 'is for runs'),
                       (['mnist-nt', '--split', 'valid'], 'is for runs'),
                       (['mnist-nt', '--dataset', 'digits'], 'not of digits'),
                       (['mnist-nt', '--channels', '3'], '--channels')):
        with pytest.raises(SystemExit): afd_evaluate(argv)
        assert said in capsys.readouterr().err


def official(path, model, enc='resnet18'):
    "A checkpoint in the layout of the authors' release."
    state = model.state_dict()
    def theirs(k):
        k = k.removeprefix('E.net.')
        return 'module.' + (k.replace('layers.', 'layer', 1)
                            if k.startswith('layers.') else k)
    torch.save(dict(
        E_state_dict={theirs(k): v for k, v in state.items()
                      if k.startswith('E.net.')},
        Dc_state_dict={k.replace('Dc.', 'module.linear2.'): v
                       for k, v in state.items() if k.startswith('Dc.')},
        enc_model=enc), path)


def test_a_command_takes_a_checkpoint_of_the_authors(tmp_path, capsys):
    model, s = load_model('mnist-afd'), load_sample('mnist', 20)
    official(tmp_path/'afd.pt', model)
    t = load_target(f'official:{tmp_path/"afd.pt"}', 'cpu', 'mnist')
    assert (t.name, t.dataset, t.eps, t.norm) == ('afd', 'mnist', .3, 'linf')
    with torch.no_grad(): assert t.model(s.x).equal(model(s.x))
    for argv, said in (([f'official:{tmp_path/"afd.pt"}'], '--dataset'),
                       (['official:none.pt', '--dataset', 'mnist'],
                        'there is no checkpoint none.pt')):
        with pytest.raises(SystemExit): afd_evaluate(argv)
        assert said in capsys.readouterr().err


def test_the_sample_is_bytes():
    s = load_sample('mnist')
    assert (s.x*255).round().div(255).equal(s.x)
    assert np.unique(s.y.numpy()).tolist() == [*range(10)]
