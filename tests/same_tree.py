"""Whether the gamqp that is imported is the one of this tree, as it is now. Job: that alone; standard library only."""

from __future__ import annotations

from pathlib import Path

__all__ = ('difference',)


def difference(imported: Path, sources: Path) -> str | None:
    """What tells the package in *imported* from the one in *sources*, in a few words; None if nothing does.

    Both are folders. A tree without a package has nothing to compare with.
    """
    if imported == sources or not sources.is_dir():
        return None  # extensions that are older than their sources are a matter of wire/test_build.py
    theirs, ours = _sources_of(imported), _sources_of(sources)
    for name in sorted(theirs | ours):
        if name not in theirs:
            return f'{name} is missing'
        if name not in ours:
            return f'{name} is not in this tree'
        if (imported / name).read_bytes() != (sources / name).read_bytes():
            return f'{name} is another one'
    return None


def _sources_of(package: Path) -> set[str]:
    return {path.relative_to(package).as_posix() for path in package.rglob('*.py')}
