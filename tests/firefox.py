"""A headless Firefox for the tests of the page, by its own protocol, Marionette: Debian has no geckodriver."""

import json
import os
import shutil
import socket
import subprocess
import time

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
QUIET = {  # asks nobody for anything by itself
    "marionette.port": 0,  # a free one, whose number is then in the profile
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class Firefox:
    """A browser with an empty profile in the folder `profile`; `preferences` are those of about:config."""

    def __init__(self, profile, **preferences):
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in (QUIET | preferences).items()
        ]
        (profile / "user.js").write_text("\n".join(lines))
        self.process = subprocess.Popen(
            [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", str(profile)],
            env=os.environ | {"HOME": str(profile)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = int(wait_for(profile / "MarionetteActivePort").read_text())
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.stream = self.socket.makefile("rb")
        self.receive()  # the browser's greeting
        self("WebDriver:NewSession")

    def __call__(self, command, **parameters):
        """The result of a command, such as "WebDriver:Back"."""
        message = json.dumps([0, 1, command, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self.receive()
        if error:
            raise RuntimeError(f"{command}: {error['error']}: {error['message']}")
        return result

    def receive(self):
        """A message: its length, a colon, JSON."""
        length = b""
        while not length.endswith(b":"):
            length += self.stream.read(1)
        return json.loads(self.stream.read(int(length[:-1])))

    def open(self, page, width=1000, height=800):
        """Opens a page in a window whose contents are so wide and high."""
        self("WebDriver:Navigate", url="about:blank")
        frame = self.run("return [outerWidth - innerWidth, outerHeight - innerHeight]")
        self("WebDriver:SetWindowRect", width=width + frame[0], height=height + frame[1])
        self("WebDriver:Navigate", url=page.as_uri() if hasattr(page, "as_uri") else page)

    def run(self, script, *args):
        """What the script returns, as a script of the page: its variables are within reach."""
        call = f"(function () {{ {script} }})(...{json.dumps(args)})"
        body = f"document.documentElement.dataset.answer = JSON.stringify({call} ?? null)"
        insert = (
            "const tag = document.createElement('script'); tag.textContent = arguments[0];"
            "document.documentElement.append(tag); tag.remove(); return document.documentElement.dataset.answer"
        )
        return json.loads(self("WebDriver:ExecuteScript", script=insert, args=[body])["value"])

    def next_frame(self):
        self(
            "WebDriver:ExecuteAsyncScript",
            script="const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))",
            args=[],
        )

    def mouse(self, *steps):
        """Moves the mouse to each (x, y), and presses or releases its button at each "down" or "up"."""
        actions = [
            {"type": "pointerMove", "x": round(step[0]), "y": round(step[1]), "duration": 0, "origin": "viewport"}
            if isinstance(step, tuple)
            else {"type": f"pointer{step.capitalize()}", "button": 0}
            for step in steps
        ]
        source = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions}
        self("WebDriver:PerformActions", actions=[source])

    def keys(self, *keys, held=()):
        """Presses and releases keys, by WebDriver's names of them, while others are held."""
        actions = [{"type": "keyDown", "value": key} for key in held]
        actions += [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        actions += [{"type": "keyUp", "value": key} for key in held]
        self("WebDriver:PerformActions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def screenshot(self):
        """What is seen, as the bytes of a PNG."""
        import base64

        return base64.b64decode(self("WebDriver:TakeScreenshot", full=False)["value"])

    def quit(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(60)


def wait_for(path):
    """The path, once there is a file with text: at most a minute."""
    for _ in range(600):
        if path.exists() and path.read_text():
            return path
        time.sleep(0.1)
    raise TimeoutError(f"no {path} after a minute")
