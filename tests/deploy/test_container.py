"""The image without Docker: built by its own steps, run by its own command as its own user.

The worker sees a file system that it cannot write to, and has no right of root's.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_contracts.client import Client
from tests.deploy.dockerfile import Dockerfile
from tests.parts.need import installed
from tests.parts.program import ROOT, Program
from tests.parts.simulator import Simulator
from tests.parts.web import free_port
from tests.parts.worker import API_KEY

#: Where the image has the worker.
PREFIX = "/opt/router-worker"
VERSION = "{}.{}".format(*sys.version_info)
QUESTION = [{"role": "user", "content": "Write a short poem about the ocean."}]
#: Puts Python and our packages where every user can reach them.
BIND = """
mount --bind "$1" "$3/python"
mount --bind "$2" "$3/packages"
"""
#: Lets nothing be written from now on.
FREEZE = """
for place in / /tmp; do
    mount -o remount,bind,ro "$(findmnt --noheadings --output TARGET --target "$place")"
done
"""
RUN = """
shift 3
exec "$@"
"""


class Image:
    """What the Dockerfile builds, in a folder that stands for the image's."""

    def __init__(self, folder: Path) -> None:
        """Build it by the steps of its first stage.

        The dependencies are those of the tests, which come from the same lock file.
        """
        self.file = Dockerfile()
        self.folder = folder
        source = folder / "source"
        for place in (source, folder / "python", folder / "packages"):
            place.mkdir()
        for name in self.file.copied:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
        base = f"bin/python{VERSION}"
        self._build(str(folder / "python" / base), "-m", "venv", "--without-pip", self._prefix)
        packages = Path(self._prefix, "lib", f"python{VERSION}", "site-packages")
        (packages / "dependencies.pth").write_text(f"{folder / 'packages'}\n")
        python = str(Path(self._prefix, "bin", "python"))
        install = ["--no-deps", "--no-build-isolation", "--ignore-installed", "--no-index"]
        self._build(python, "-m", "pip", "--no-cache-dir", "install", *install, str(source))

    @property
    def _prefix(self) -> str:
        """Stands for :data:`PREFIX`."""
        return str(self.folder / "prefix")

    def command(self, *command: str) -> list[str]:
        """Write a command as it is run inside: by the image's user, who can write nothing."""
        user, _, group = self.file.last("USER").partition(":")
        identity = [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        rights = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        setpriv = installed("setpriv", "util-linux")
        whole = [setpriv, *identity, *rights, "env", "--chdir=/", *command]
        return self._inside(BIND + FREEZE + RUN, *whole)

    def _build(self, *command: str) -> None:
        """Run a step of the build."""
        done = subprocess.run(
            self._inside(BIND + RUN, *command),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _inside(self, script: str, *command: str) -> list[str]:
        """Write a command as it is run in a mount namespace of its own."""
        enter = [installed("unshare", "util-linux"), "--mount", "sh", "-euc", script, "sh"]
        return [*enter, sys.base_prefix, sysconfig.get_path("purelib"), str(self.folder), *command]

    def environment(self, **settings: str) -> dict[str, str]:
        """Return the image's variables, and more."""
        own = {
            name: value.replace(PREFIX, self._prefix).replace("$PATH", os.environ["PATH"])
            for name, value in self.file.environment.items()
        }
        # Where Python is a library, it is looked for in its own place, which is not everybody's.
        return own | {"LD_LIBRARY_PATH": str(self.folder / "python" / "lib")} | settings


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Every user can read it, as in a real image; pytest's own folders are their owner's alone."""
    if os.geteuid() != 0:
        pytest.skip("only root may run the worker as its own user")
    folder = Path(tempfile.mkdtemp(prefix="router-worker-image-"))
    folder.chmod(0o755)
    yield Image(folder)
    shutil.rmtree(folder)


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    simulator = Simulator(tmp_path)
    yield simulator
    simulator.program.stop()


def test_the_image_runs_as_nobody_in_a_file_system_that_it_cannot_write_to(
    image: Image, simulator: Simulator, redis_url: str, tmp_path: Path
) -> None:
    environment = image.environment(
        PORT=str(free_port()),
        REDIS_URL=redis_url,
        ROUTER_WORKER_BASE_URL=simulator.url,
        YOUROUTER_API_KEY=API_KEY,
        # As Docker does for whoever has a proxy: nobody is behind this one.
        http_proxy=f"http://127.0.0.1:{free_port()}",
    )
    start = [*image.file.array("ENTRYPOINT"), *image.file.array("CMD")]
    worker = Program(image.command(*start), tmp_path / "worker.log", env=environment)
    try:
        url = f"http://127.0.0.1:{environment['PORT']}"
        worker.wait_for(f"{url}/readyz")
        status = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
        assert "Uid:\t10001\t10001\t10001\t10001" in status
        assert "CapEff:\t0000000000000000" in status
        with Client(redis_url) as client:
            text = "".join(client.chat("gpt-4o", QUESTION, stream=True).text())
        assert text.startswith("The ocean hums")
        assert healthy(image, environment)
    finally:
        ended = worker.stop()
    assert ended == 0
    assert '"message": "completed"' in worker.output
    assert not healthy(image, environment)


def test_nothing_can_be_written_there(image: Image) -> None:
    """What the test above stands on."""
    for folder in ("/tmp", "/opt", str(image.folder)):
        done = subprocess.run(
            image.command("touch", f"{folder}/mark"), capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 1
        assert b"Read-only file system" in done.stderr or b"Permission denied" in done.stderr


def healthy(image: Image, environment: dict[str, str]) -> bool:
    """Ask as Docker does."""
    check = image.command(*image.file.array("HEALTHCHECK"))
    done = subprocess.run(check, env=environment, capture_output=True, check=False, timeout=60)
    return done.returncode == 0
