"""Private files: all that is written here may hold patient data, so only the account that writes it can read it."""

import os
import stat
from pathlib import Path

from mediscale.core.settings import Settings

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def only_owner() -> None:
    """Sets the umask, so that only this account can read what this process and its children write from now on."""
    os.umask(OTHERS)


def readable_by_others(settings: Settings) -> list[Path]:
    """The home, and a lake on a disk, where other accounts can enter them."""
    folders = [settings.home, *([settings.lake_folder] if settings.lake_folder else [])]
    inside = [folder for folder in folders if folder == settings.home or settings.home not in folder.parents]
    return [folder for folder in inside if folder.is_dir() and folder.stat().st_mode & OTHERS]


def close_home(settings: Settings) -> bool:
    """Takes a home of this account from all others; whether others could enter it."""
    home = settings.home
    if not home.is_dir() or home.stat().st_uid != os.geteuid() or not home.stat().st_mode & OTHERS:
        return False
    home.chmod(stat.S_IRWXU)
    return True
