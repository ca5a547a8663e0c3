"A real browser without a driver: Chromium, spoken to through two pipes."
import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time

NAMES = 'chromium', 'chromium-browser', 'google-chrome', 'chrome'
BINARY = next(filter(None, map(shutil.which, NAMES)), None)
START = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for fd, wanted in zip(pipes, (3, 4)): os.dup2(fd, wanted)
os.execv(sys.argv[3], sys.argv[3:])
""" # Chromium reads commands from 3 and answers on 4


class Browser:
    "Headless Chromium; `page` opens a file and watches what goes wrong."
    def __init__(self, profile):
        here_in, out = os.pipe()
        into, here_out = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, '-c', START, str(into), str(out), BINARY,
             '--headless', '--no-sandbox', '--disable-gpu',
             '--disable-dev-shm-usage', '--no-first-run',
             f'--user-data-dir={profile}', '--remote-debugging-pipe',
             'about:blank'], pass_fds=(into, out),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(into)
        os.close(out)
        self.read, self.write = here_in, here_out
        self.rest, self.last, self.session, self.events = b'', 0, None, []

    def close(self):
        try: self('Browser.close')
        except OSError: pass
        for fd in (self.read, self.write): os.close(fd)
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: self.process.kill()

    def receive(self, until):
        while b'\0' not in self.rest:
            ready, _, _ = select.select([self.read], [], [],
                                        max(0, until - time.time()))
            if not ready: raise TimeoutError('the browser says nothing')
            data = os.read(self.read, 1 << 20)
            if not data: raise BrokenPipeError('the browser is gone')
            self.rest += data
        text, self.rest = self.rest.split(b'\0', 1)
        return json.loads(text)

    def __call__(self, method, **params):
        "One command of the DevTools protocol, and its answer."
        self.last += 1
        message = dict(id=self.last, method=method, params=params)
        if self.session: message['sessionId'] = self.session
        os.write(self.write, json.dumps(message).encode() + b'\0')
        until = time.time() + 60
        while True:
            got = self.receive(until)
            if got.get('id') == self.last:
                if 'error' in got: raise RuntimeError(got['error'])
                return got['result']
            self.events.append(got)

    def js(self, expression):
        "The value of an expression on the page; RuntimeError if it throws."
        got = self('Runtime.evaluate', expression=expression,
                   returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in got: raise RuntimeError(
            got['exceptionDetails']['exception'].get('description'))
        return got['result'].get('value')

    def page(self, path, width=1200, height=900, dark=False, media=''):
        "Open a file in a fresh tab, offline."
        self.session, self.events, self.width = None, [], width
        target = self('Target.createTarget', url='about:blank')['targetId']
        self.session = self('Target.attachToTarget', targetId=target,
                            flatten=True)['sessionId']
        for domain in 'Page', 'Runtime', 'Log', 'Network':
            self(f'{domain}.enable')
        self('Network.emulateNetworkConditions', offline=True, latency=0,
             downloadThroughput=0, uploadThroughput=0)
        self('Emulation.setDeviceMetricsOverride', width=width,
             height=height, deviceScaleFactor=1, mobile=width < 600)
        self('Emulation.setEmulatedMedia', media=media, features=[
            dict(name='prefers-color-scheme',
                 value='dark' if dark else 'light')])
        self('Page.navigate', url=path.resolve().as_uri())
        until = time.time() + 60
        while not any(e.get('method') == 'Page.loadEventFired'
                      for e in self.events):
            self.events.append(self.receive(until))
        self.js('new Promise(f => setTimeout(f, 50))')
        return self

    def wrong(self):
        "Errors of scripts and of the console, and what was asked of the net."
        found = []
        for e in self.events:
            p = e.get('params', {})
            match e.get('method'):
                case 'Runtime.exceptionThrown':
                    d = p['exceptionDetails']
                    found.append(d.get('exception', {}).get(
                        'description', d['text']))
                case 'Runtime.consoleAPICalled' if p['type'] in (
                        'error', 'assert', 'warning'):
                    found.append(f"console.{p['type']}")
                case 'Log.entryAdded' if p['entry']['level'] == 'error':
                    found.append(p['entry']['text'])
                case 'Network.requestWillBeSent':
                    url = p['request']['url']
                    if not url.startswith(('data:', 'file:', 'about:')):
                        found.append(f'asks for {url}')
        return found

    def key(self, name):
        "Press a key, as a person does."
        text = {'Enter': '\r', ' ': ' '}.get(name, '')
        code = {'Enter': 13, 'Tab': 9, ' ': 32}[name]
        for kind in 'keyDown', 'keyUp':
            self('Input.dispatchKeyEvent', type=kind, key=name,
                 windowsVirtualKeyCode=code, **(
                     dict(text=text) if text and kind == 'keyDown' else {}))

    def picture(self, path, whole=True):
        "Save what the page looks like."
        got = self('Page.captureScreenshot', captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(got['data']))

    def pdf(self):
        "The page printed on A4, as bytes."
        return base64.b64decode(self('Page.printToPDF',
                                     preferCSSPageSize=True)['data'])
