"""The kernels that guests boot, and through what each lets a program reach a device."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import debian
import own_kernel


@dataclass(frozen=True)
class kernel:
    name: str
    transports: tuple[str, ...]
    unpack: Callable[[Path], Path]  # gets the cache, gives the folder of an image and its modules


def package_names(version: str) -> str:
    """An expression for the ordinary kernels of a series: not those for clouds or real time.

    Newer ones come in three parts. What they depend on prepares a machine's boot, and goes from
    the mirror before they do.
    """
    return rf"linux-(?:image|binary|modules)-({version}\.[\d.-]+(?:\+deb[\d.]+)?)-amd64"


def _debian_kernel(version: str, *suites: str) -> kernel:
    """The newest kernel of a series. Debian configures none with iommufd, so groups are all."""
    tree = debian.package_tree(f"linux-{version}", suites, suites[-1], (), package_names(version))
    return kernel(version, ("group",), partial(debian.ensure, tree))


KERNELS = (
    kernel("own", ("group", "cdev"), own_kernel.ensure),
    _debian_kernel("5.10", "bullseye"),
    _debian_kernel("6.1", "bookworm"),
    _debian_kernel("6.12", "bookworm", "bookworm-backports"),
    _debian_kernel("6.18", "trixie", "trixie-backports"),
    _debian_kernel("7.2", "trixie", "trixie-backports"),
)
