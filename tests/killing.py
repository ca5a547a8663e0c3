"""Children that may be killed: a server imports torch once and forks them.

A trial then costs a fraction of a second instead of the seconds that torch
needs to be imported. The children are what a shell would start: a session
and signals of their own, their words in a log. What a start itself does
(imports, refusals before torch, variables that are read by then) is tested
in fresh processes; `test_processes` holds the two kinds against each other.
"""
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

PRELOAD = ('afd_nb.method.afd', 'afd_nb.method.baselines', 'afd_nb.results.experiments',
           'afd_nb.robustness.masking', 'sklearn.datasets', 'sklearn.model_selection',
           'torch._dynamo', # by the first optimiser, a second or more
           'torchvision.datasets')


def _child(name, args, log):
    "What the forked child does; never returns."
    os.setsid()
    with open(log, 'w') as f:
        for n in (1, 2): os.dup2(f.fileno(), n)
    sys.stdin = open(os.devnull)
    sys.stdout, sys.stderr = (open(n, 'w', buffering=1, closefd=False)
                              for n in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 0
    try: globals()[name](*args)
    except SystemExit as e:
        code = e.code or 0
        if not isinstance(code, int): # words, as `sys.exit` takes them
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve():
    "Fork a child a line of stdin; answer with its number, later its end."
    for name in PRELOAD: importlib.import_module(name)
    gc.collect()
    gc.freeze() # no child's collection copies what all of them share
    print('ready', flush=True)
    for line in sys.stdin:
        what, *args = json.loads(line)
        if what == 'start':
            pid = os.fork()
            if pid == 0: _child(*args)
            print(pid, flush=True)
        else: # 'ended'
            pid, status = os.waitpid(args[0], os.WNOHANG)
            print(os.waitstatus_to_exitcode(status) if pid else 'no',
                  flush=True)


class Children:
    "The server, from the side of the tests."

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        assert self.server.stdout.readline() == 'ready\n'

    def ask(self, *words):
        self.server.stdin.write(json.dumps(words) + '\n')
        self.server.stdin.flush()
        return self.server.stdout.readline().strip()

    def start(self, log, name, *args):
        "Begin `name(*args)` of this file."
        return Child(self, int(self.ask('start', name, args, str(log))), log)

    def finish(self, log, name, *args):
        "Run to the end; what it said. An exit other than 0 is an error."
        child = self.start(log, name, *args)
        assert child.wait(300) == 0, child.said()
        return child.said()

    def close(self):
        self.server.stdin.close()
        self.server.wait(60)


class Child:
    def __init__(self, server, pid, log):
        self.server, self.pid, self.log = server, pid, Path(log)
        self.code = None

    def said(self): return self.log.read_text()
    def send(self, signum): os.kill(self.pid, signum)

    def ended(self):
        if self.code is None:
            answer = self.server.ask('ended', self.pid)
            self.code = None if answer == 'no' else int(answer)
        return self.code is not None

    def wait(self, seconds):
        "The exit status; None if it runs on after so many seconds."
        end = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < end:
            time.sleep(min(.01, max(0, end - time.monotonic())))
        return self.code

    def wait_for(self, condition, seconds=120):
        "Until `condition()`; an error if it ends or takes too long before."
        end = time.monotonic() + seconds
        while not condition():
            assert not self.ended(), self.said()
            assert time.monotonic() < end, 'it took too long'
            time.sleep(.005)

    def kill(self):
        "The exit status: of SIGKILL, unless it ended before. Its own, too."
        if not self.ended(): os.killpg(self.pid, signal.SIGKILL)
        return self.wait(60)


# ------------------------------------------------- what children can do

def shell(command, argv):
    "One of the package's commands."
    from afd_nb.tools import commands, experiments_command, run_commands
    f = (vars(commands) | vars(run_commands)
         | vars(experiments_command))[command]
    f(argv)


def python(code, *argv):
    "What `python -c code argv...` does."
    sys.argv[:] = '-c', *argv
    exec(compile(code, '<string>', 'exec'), dict(__name__='__main__'))


def train(recipe, run):
    "Begin a run, or go on with it: what a user does after each kill."
    from afd_nb.method.recipe import Recipe
    from afd_nb.method.training import fit
    recipe['milestones'] = tuple(recipe['milestones'])
    fit(Recipe(**recipe), out=run, device='cpu',
        resume=os.path.exists(f'{run}/recipe.json'))


def counted(f, k, seen):
    "`f`, but the k-th call of all kills the process."
    def g(*args):
        seen.append(1)
        if len(seen) == k: os.kill(os.getpid(), signal.SIGKILL)
        return f(*args)
    return g


def die_at(k, name, *args):
    "Be killed at the k-th time that a file is flushed or renamed."
    seen = []
    os.fsync, os.replace = (counted(f, k, seen)
                            for f in (os.fsync, os.replace))
    globals()[name](*args)
    print('events', len(seen))


def train_then(recipe, run, steps, what, value=None):
    "Train; after so many steps something befalls the disk."
    import shutil
    import resource
    from afd_nb.method.recipe import Recipe
    from afd_nb.method.training import fit
    recipe['milestones'] = tuple(recipe['milestones'])
    done = []
    def tick():
        done.append(1)
        if len(done) != steps: return
        if what == 'limit': # no file may grow beyond so many bytes
            resource.setrlimit(resource.RLIMIT_FSIZE, (value, value))
        if what == 'remove': shutil.rmtree(run)
        if what == 'fill': # the file system, to the last byte
            with open(value, 'wb', buffering=0) as f:
                try:
                    while f.write(b'0'*4096): pass
                except OSError: pass
    from afd_nb.tools.command_line import plain_errors
    with plain_errors('afd_train'):
        fit(Recipe(**recipe), out=run, device='cpu', progress=tick)


def train_as_nobody(recipe, run):
    "Train into a folder that one may not write."
    from afd_nb.tools.command_line import plain_errors
    from afd_nb.method.recipe import Recipe
    from afd_nb.method.training import fit
    recipe['milestones'] = tuple(recipe['milestones'])
    fit(Recipe(**recipe), device='cpu') # whatever is imported late, now
    if os.geteuid() == 0: os.seteuid(65534)
    with plain_errors('afd_train'):
        fit(Recipe(**recipe), out=run, device='cpu',
            resume=os.path.exists(f'{run}/recipe.json'))


if __name__ == '__main__': serve()
