"""Whether mypy and pyright see of an installed gamqp what the programs beside this file say.

``right_usage.py`` and the example at the top of README.rst must pass; ``wrong_usage.py`` must have an error of the
kind that stands behind the line on each line that says so, and no other. Part of the lint run of ``.ci/run``; by hand::

    python tests/typing/check.py FOLDER_OF_THE_CHECKERS PYTHON_THAT_HAS_GAMQP
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent.parent / 'README.rst'

# line of a program -> the kinds of errors on it
Errors = dict[int, set[str]]

WRONG = re.compile(r'# wrong: (?P<mypy>[a-z -]+),(?P<pyright>[A-Za-z ]*)$')


def run_mypy(tools: Path, python: Path, folder: Path) -> dict[str, Errors]:
    command = [tools / 'mypy', '--strict', '--config-file', '', '--cache-dir', folder / 'cache', '--no-error-summary']
    command += ['--python-executable', python, '--hide-error-context', '.']
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if answer.returncode not in (0, 1):
        sys.exit(f'mypy failed:\n{answer.stdout}{answer.stderr}')
    found: dict[str, Errors] = defaultdict(lambda: defaultdict(set))
    for line in answer.stdout.splitlines():
        match = re.fullmatch(r'(.+?):(\d+): error: .*\[([a-z-]+)\]', line)
        if match:
            found[match[1]][int(match[2])].add(match[3])
        elif ': note: ' not in line:
            sys.exit(f'mypy said: {line}')
    return found


def run_pyright(tools: Path, python: Path, folder: Path) -> dict[str, Errors]:
    (folder / 'pyrightconfig.json').write_text('{"typeCheckingMode": "strict", "reportUnusedExpression": false}')
    command = [tools / 'pyright', '--outputjson', '--pythonpath', python, '--project', folder]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if answer.returncode not in (0, 1):
        sys.exit(f'pyright failed:\n{answer.stdout}{answer.stderr}')
    found: dict[str, Errors] = defaultdict(lambda: defaultdict(set))
    for one in json.loads(answer.stdout)['generalDiagnostics']:
        if one['severity'] == 'error':
            kind = one.get('rule', 'syntax')
            found[Path(one['file']).name][one['range']['start']['line'] + 1].add(kind)
    return found


def expected_errors(program: Path, checker: str) -> Errors:
    expected: Errors = {}
    for number, line in enumerate(program.read_text(encoding='utf-8').splitlines(), 1):
        match = WRONG.search(line)
        if match is None:
            assert '# wrong' not in line, f'{program.name}:{number} cannot be understood'
        elif kinds := set(match[checker].split()):
            expected[number] = kinds
    return expected


def compare(program: str, checker: str, found: Errors, expected: Errors) -> list[str]:
    """One line for each error that is missing or that nobody expects. Of several expected kinds one is enough."""
    complaints = []
    for number in sorted({*found, *expected}):
        kinds, wanted = found.get(number, set()), expected.get(number, set())
        if not (kinds & wanted if wanted else not kinds):
            shown = ' '.join(sorted(kinds)) or 'nothing'
            complaints.append(f'{program}:{number}: {checker} reports {shown}, not {" or ".join(wanted) or "nothing"}')
        elif surplus := {
            kind for kind in kinds - wanted if not kind.startswith('reportUnknown')
        }:  # what follows from it
            complaints.append(f'{program}:{number}: {checker} also reports {" ".join(sorted(surplus))}')
    return complaints


def readme_example() -> str:
    text = README.read_text(encoding='utf-8')
    block = re.search(r'^\.\. code-block:: python\n\n((?:    .*\n|\n)+)', text, re.M)
    assert block is not None and 'queue_declare' in block[1], 'README.rst has lost its example'
    return re.sub(r'^    ', '', block[1], flags=re.M)


def main(tools: Path, python: Path) -> int:
    complaints = []
    # A folder of its own, so that gamqp is the installed one.
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        for name in ('right_usage.py', 'wrong_usage.py'):
            shutil.copy(HERE / name, folder / name)
        (folder / 'readme_example.py').write_text(readme_example(), encoding='utf-8')
        for checker, run in (('mypy', run_mypy), ('pyright', run_pyright)):
            found = run(tools, python, folder)
            for program in sorted(folder.glob('*.py')):
                complaints += compare(program.name, checker, found[program.name], expected_errors(program, checker))
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()))
