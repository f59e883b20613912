"""Records what real brokers answer to the scenes, in ``data/scenes-VERSION.json``.

``record_scenes.py VERSION URL [SCENE ...]``

To be run by hand when a scene is new; ``test_scenes.py`` compares the records with ``testing.Broker``, and, with
``--all``, with the brokers that are there. Does not belong here: expectations.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / 'broker'), str(HERE.parents[1])]

from conversations import Talker  # noqa: E402
from scenes import all_scenes  # noqa: E402

__all__ = ('DATA', 'answers', 'play')

SCENES = all_scenes()
DATA = HERE.parent / 'data'
_AT_ONCE = 64


def answers(url: str, names: list[str], quiet: float) -> dict[str, Any]:
    """What a real broker answers to each of these scenes."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(names, pool.map(lambda name: _play(url, name, quiet), names), strict=True))


def _play(url: str, name: str, quiet: float) -> Any:
    return play(Talker(url, f'scene-{uuid.uuid4().hex[:8]}-', quiet), SCENES[name])


def play(talk: Talker, conversation: Callable[[Talker], None]) -> Any:
    """Hold a conversation to its end. Returns its record, as JSON can hold it."""
    try:
        conversation(talk)
        talk.settle()
        return json.loads(json.dumps(talk.by_channel(), sort_keys=True, default=repr))
    finally:
        talk.close()


def main(version: str, url: str, *names: str) -> None:
    """Record all scenes."""
    path = DATA / f'scenes-{version}.json'
    record = json.loads(path.read_text(encoding='utf-8')) if names else {}
    record.update(answers(url, list(names or SCENES), 0.3))
    lines = (f'{json.dumps(name)}: {json.dumps(record[name], sort_keys=True)}' for name in sorted(record))
    path.write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')


if __name__ == '__main__':
    main(*sys.argv[1:])
