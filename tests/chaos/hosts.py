"""Hosts of their own on one machine: network namespaces, each joined to a bridge by a cable that can be cut.

A route that leads nowhere stops one direction: what is sent is lost, and nobody is told, as with a firewall that drops.
"""

import contextlib
import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@dataclass(frozen=True)
class Host:
    """One namespace. `cable`: the bridge's end of its cable."""

    name: str
    address: str
    cable: str
    hub: str

    @property
    def prefix(self) -> Sequence[str]:
        """What a command begins with that is to run there."""
        return ("ip", "netns", "exec", self.name)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Nothing gets through, in neither direction."""
        _ip("link", "set", self.cable, "down")
        try:
            yield
        finally:
            _ip("link", "set", self.cable, "up")

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """What it sends arrives, and nothing comes back."""
        _ip("route", "add", "blackhole", f"{self.address}/32")
        try:
            yield
        finally:
            _ip("route", "del", "blackhole", f"{self.address}/32")

    @contextlib.contextmanager
    def mute(self) -> Iterator[None]:
        """It hears, and nothing that it sends arrives."""
        _ip("-n", self.name, "route", "add", "blackhole", f"{self.hub}/32")
        try:
            yield
        finally:
            _ip("-n", self.name, "route", "del", "blackhole", f"{self.hub}/32")


@contextlib.contextmanager
def network(count: int) -> Iterator[tuple[str, list[Host]]]:
    """So many hosts, and this machine's address on their network. Needs root."""
    dice = random.SystemRandom()
    mark, net = f"hf{dice.randrange(16**5):05x}", f"10.{dice.randrange(64, 250)}.{dice.randrange(1, 250)}"
    hub = f"{net}.1"
    hosts = [Host(f"{mark}h{number}", f"{net}.{10 + number}", f"{mark}c{number}", hub) for number in range(count)]
    try:
        _ip("link", "add", mark, "type", "bridge")
        _ip("addr", "add", f"{hub}/24", "dev", mark)
        _ip("link", "set", mark, "up")
        for host in hosts:
            _ip("netns", "add", host.name)
            _ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            _ip("link", "set", host.cable, "master", mark, "up")
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", host.name, "link", "set", device, "up")
        yield hub, hosts
    finally:
        for host in hosts:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", host.name)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", mark)
