"""Finds or installs the servers that tests run: those of RabbitMQ for private nodes (node.py), and Redis.

Job: `install('3.10')` is the server of this machine, whatever version it is: an installed one, else the
distribution's package. `install('4.3')` is a small Debian of its own with a newer RabbitMQ, made once in the
user's cache folder and used by chroot. Both say what they do, and raise `CannotInstall` with what is missing.

Ban: starts no broker, and leaves none running: the package's own service is neither started nor enabled.
The mirror is the one that this machine's apt already uses; no host name is written here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: The Debian release whose RabbitMQ is 4.3.
_SUITE = 'forky'

_SERVER = 'usr/lib/rabbitmq/bin/rabbitmq-server'


class CannotInstall(RuntimeError):
    """This machine cannot have that RabbitMQ; the text says why and what would help."""


@dataclass(frozen=True)
class Server:
    """An installed RabbitMQ: the label it was asked by, and the folder its system lives in ('' = this one)."""

    label: str
    root: str = ''

    @property
    def version(self) -> str:
        """The version by its files, such as '3.10.8'; a running node tells it too."""
        found = sorted(Path(self.root or '/').glob('usr/lib/rabbitmq/lib/rabbitmq_server-*'))
        return found[-1].name.rpartition('-')[2] if found else 'unknown'


def install(label: str) -> Server:
    """The server called '3.10' or '4.3', installed if need be. Raises CannotInstall."""
    if label == '3.10':
        return _from_system()
    if label == '4.3':
        return _from_cache()
    raise CannotInstall(f"RabbitMQ {label!r} is not one of '3.10', '4.3'")


def install_redis() -> None:
    """The command redis-server, installed if need be; its service is not started. Raises CannotInstall."""
    if not shutil.which('redis-server'):
        say('installing the package redis-server, for tests of Celery')
        _apt_install(['redis-server'])


def namespaces() -> list[str]:
    """The command prefix that gives a process its own mounts and process ids; [] where that is not allowed.

    A chroot is usually not a mount point, which makes unshare's first step (all mounts private) fail there;
    the second form goes without it.
    """
    if not hasattr(os, 'geteuid') or os.geteuid() != 0 or not shutil.which('unshare'):
        return []
    plain = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
    for prefix in (plain, [*plain, '--propagation', 'unchanged']):
        if subprocess.run([*prefix, 'true'], capture_output=True).returncode == 0:
            return prefix
    return []


def say(text: str) -> None:
    print(f'rabbitmq: {text}', file=sys.stderr, flush=True)


# -- 3.10: the package of this machine ---------------------------------------------------------------------


def _from_system() -> Server:
    if not os.access('/' + _SERVER, os.X_OK):
        say('installing the package rabbitmq-server (about 15 s)')
        _apt_install(['rabbitmq-server', 'netbase'])
        if not os.access('/' + _SERVER, os.X_OK):
            raise CannotInstall(f'the package rabbitmq-server was installed, but there is no /{_SERVER}')
    return Server('3.10')


# Whether the service may start is the affair of policy-rc.d (101 = forbidden); one that is there already is
# left alone. Where systemd is in charge the package also enables the service for the next boot: undone.
_APT_SCRIPT = """
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM HUP
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod +x "$policy"
fi
apt-get -q -o DPkg::Lock::Timeout=300 update
apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
for package; do
    if [ -d /run/systemd/system ]; then
        case $package in
            rabbitmq-server) systemctl disable rabbitmq-server epmd.socket || true ;;
            redis-server) systemctl disable redis-server || true ;;
        esac
    fi
done
"""


def _apt_install(packages: list[str]) -> None:
    names = ' '.join(packages)
    if not shutil.which('apt-get'):
        raise CannotInstall(f'no apt-get here: install {names} yourself, or set AMQP_URL to a broker to use')
    become = _become_root()
    if become is None:
        raise CannotInstall(
            f'not root, and no sudo without a password: run `apt-get install {names}` as root first, '
            'or set AMQP_URL to a broker to use'
        )
    script = [*become, 'sh', '-c', _APT_SCRIPT, 'sh', *packages]
    _run_logged(script, f'installing {names}')


def _become_root() -> list[str] | None:
    if os.geteuid() == 0:
        return []
    sudo = ['sudo', '-n']
    if shutil.which('sudo') and subprocess.run([*sudo, 'true'], capture_output=True).returncode == 0:
        return sudo
    return None


def _run_logged(argv: list[str], what: str, env: dict[str, str] | None = None) -> None:
    """Run quietly; when it fails, raise with the end of what it printed."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env)
        try:
            status = process.wait()
        except KeyboardInterrupt:
            # The key reached it as well, and it tidies up; `subprocess.run` would kill it before it has done so.
            process.wait()
            raise
        if status != 0:
            log.seek(0)
            tail = '\n'.join(log.read().decode(errors='replace').splitlines()[-15:])
            raise CannotInstall(f'{what} failed (status {status}); it ended with:\n{tail}')


# -- 4.3: a Debian in a folder -----------------------------------------------------------------------------


def _from_cache() -> Server:
    if os.geteuid() != 0:
        raise CannotInstall('RabbitMQ 4.3 is run by chroot, which needs root')
    prefix = namespaces()
    if not prefix:
        raise CannotInstall('RabbitMQ 4.3 needs mounts of its own (unshare), which are forbidden here')
    cache = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'gamqp'
    root = cache / 'rabbitmq-4'
    if not (root / _SERVER).exists():
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / 'rabbitmq-4.lock', 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / _SERVER).exists():  # another run may have made it while we waited
                _bootstrap(root, prefix)
    return Server('4.3', str(root))


def _bootstrap(root: Path, prefix: list[str]) -> None:
    """Make the system in a folder of another name and rename it: `root` is either whole or absent."""
    if not shutil.which('debootstrap'):
        say('installing the package debootstrap')
        _apt_install(['debootstrap'])
    mirror = _mirror()
    say(f'making a small Debian {_SUITE} with RabbitMQ 4 in {root} (once; 390 MB, about a minute)')
    for leftover in [root, *root.parent.glob('rabbitmq-4.new-*')]:
        _remove(leftover)  # of a run that was killed; we hold the lock
    new = Path(tempfile.mkdtemp(prefix='rabbitmq-4.new-', dir=root.parent))
    new.chmod(0o755)
    try:
        # The script is named because a stable Debian knows no scripts for releases newer than itself.
        script = '/usr/share/debootstrap/scripts/sid'
        options = ['--variant=minbase', '--include=rabbitmq-server,netbase']
        argv = [*prefix, 'debootstrap', *options, _SUITE, str(new), mirror, script]
        _run_logged(argv, f'debootstrap of {_SUITE}', env={**os.environ, **_proxies()})
        for package in (new / 'var/cache/apt/archives').glob('*.deb'):
            package.unlink()
        # Without a name for localhost the node ends in "epmd error: nxdomain".
        (new / 'etc/hosts').write_text('127.0.0.1 localhost\n::1 localhost\n')
        new.rename(root)
    except BaseException:
        _remove(new)
        raise


def _remove(folder: Path) -> None:
    """Remove a system, unless something of the machine is still mounted in it: that must not be emptied."""
    mounts = [line.split()[1] for line in Path('/proc/mounts').read_text().splitlines()]
    if any(f'{mount}/'.startswith(f'{folder}/') for mount in mounts):
        raise CannotInstall(f'something is mounted in {folder}: unmount and remove it')
    if folder.exists():
        shutil.rmtree(folder)


def _mirror() -> str:
    """The Debian mirror of this machine, as apt itself reads its sources (one-line and deb822 alike)."""
    argv = ['apt-get', 'indextargets', '--format', '$(REPO_URI) $(RELEASE) $(ORIGIN)', 'Created-By: Packages']
    listed = subprocess.run(argv, capture_output=True, text=True).stdout.splitlines()
    targets = [line.split() for line in listed if len(line.split()) >= 2]
    debian = [target for target in targets if target[2:] == ['Debian'] and 'security' not in target[1]]
    # Before the first `apt-get update` apt knows no origins: go by the usual path.
    by_path = [target for target in targets if target[0].rstrip('/').endswith('/debian')]
    for uri, *_ in debian or by_path:
        if uri.startswith('mirror+file:'):  # a file with one mirror per line
            lines = Path('/' + uri.removeprefix('mirror+file:').strip('/')).read_text().split()
            return lines[0]
        return uri
    raise CannotInstall("RabbitMQ 4.3 comes from Debian: no Debian mirror in this machine's apt sources")


def _proxies() -> dict[str, str]:
    """The proxy that apt was told to use; debootstrap downloads by other means and does not know it."""
    result = {}
    for scheme in ('http', 'https'):
        argv = ['apt-config', 'shell', 'proxy', f'Acquire::{scheme}::Proxy']
        value = subprocess.run(argv, capture_output=True, text=True).stdout.strip()
        value = value.removeprefix('proxy=').strip("'")
        if '://' in value:  # it may also say DIRECT or false
            result[f'{scheme}_proxy'] = value
    return result


if __name__ == '__main__':
    # The other server that tests use; for tests/setup.sh.
    try:
        install_redis()
    except CannotInstall as error:
        say(str(error))
        sys.exit(1)
