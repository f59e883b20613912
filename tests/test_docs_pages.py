"""The pages by task: their code compiles, their texts of errors are those of gamqp, and each page leads to the next."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob('*.rst'))
PROGRAMS = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob('*.py'))

#: Pages that end without saying what comes next: lists to look something up in.
LISTS = {
    'api.rst',
    'architecture.rst',
    'changes.rst',
    'examples.rst',
    'index.rst',
    'faq.rst',
    'tutorials/index.rst',
}

#: Lines of a paragraph, at most. Longer ones are not read.
LONGEST = 6


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding='utf-8')


# -- code ------------------------------------------------------------------------------------

BLOCK = re.compile(
    r'^( *)(?:\.\. code-block:: (\w+)|(?!\.\. )\S.*::|::)\n((?:\1 +:\w+:.*\n)*)\n((?:\1 +\S.*\n|\s*\n)+)', re.M
)


def blocks(page: str, language: str = 'python') -> Iterator[str]:
    """The code of a page that stands in it. A block without a language is Python where it looks like that."""
    for _, named, _, code in BLOCK.findall(text_of(page)):
        code = textwrap.dedent(code)
        if (named or guess(code)) == language:
            yield code


def guess(code: str) -> str:
    is_python = re.search(r'^(import|from|for|with|def|class|\w+ = |[\w.]+\(.*\)$)', code, re.M)
    return 'python' if is_python else 'console'


CODE = [(page, number, code) for page in PAGES for number, code in enumerate(blocks(page))]


@pytest.mark.parametrize(('page', 'number', 'code'), CODE, ids=[f'{page}-{number}' for page, number, _ in CODE])
def test_a_block_of_code_compiles(page: str, number: int, code: str) -> None:
    if code.startswith('except '):  # a part of a try
        code = 'try:\n    pass\n' + code
    compile(code.replace('…', '...'), f'{page}, block {number}', 'exec')


@pytest.mark.parametrize('name', PROGRAMS)
def test_a_program_compiles(name: str) -> None:
    compile(text_of(name), name, 'exec')


def test_blocks_are_found() -> None:
    assert len(CODE) > 25
    assert len({page for page, *_ in CODE}) > 7


def test_each_program_of_the_docs_is_shown_on_a_page() -> None:
    shown = {
        (Path(page).parent / name).as_posix()
        for page in PAGES
        for name in re.findall(r'^ *\.\. literalinclude:: (\S+)$', text_of(page), re.M)
    }
    assert set(PROGRAMS) - {'conf.py', 'imports.py', 'pictures.py', 'states.py'} <= shown
    for name in shown:
        assert (DOCS / name).is_file(), name


# -- texts of errors ---------------------------------------------------------------------------


def template(node: ast.AST) -> str | None:
    """The text of a literal, with an ellipsis for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r'%(?:\.\d)?[srdgf]|\{.*?\}', '…', node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(template(part) or '…' for part in node.values)
    return None


@pytest.fixture(scope='module')
def templates() -> list[str]:
    found = []
    for path in (ROOT / 'gamqp').rglob('*.py'):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        found += [text for node in ast.walk(tree) if (text := template(node)) is not None]
    return found


OWN, _, _REST = text_of('troubleshooting.rst').partition("\nThe broker's words\n")
TEXTS = re.findall(r'^   \* - ``(.+)``$', OWN, re.M)

#: Not gamqp's.
OF_THE_SYSTEM = {'Connection refused'}


@pytest.mark.parametrize('text', TEXTS)
def test_a_text_on_the_page_of_errors_is_one_of_gamqps(text: str, templates: list[str]) -> None:
    if text in OF_THE_SYSTEM:
        return
    wanted = re.compile('.*'.join(re.escape(part) for part in text.split('…')), re.S)
    assert any(wanted.search(one) for one in templates), f'no error, hint or warning of gamqp says {text!r}'


def test_the_page_of_errors_has_its_texts() -> None:
    assert len(TEXTS) > 50
    assert len(TEXTS) == len(set(TEXTS))


# -- how it reads ------------------------------------------------------------------------------


def paragraphs(page: str) -> Iterator[str]:
    """Blocks of text at the left edge, without tables, directives and lists."""
    for block in re.split(r'\n\s*\n', text_of(page)):
        if not block.startswith((' ', '..', '=', '*', '+')) and not re.search(r'^[=~-]{4,}', block, re.M):
            yield block


@pytest.mark.parametrize('page', [page for page in PAGES if page not in {'architecture.rst', 'api.rst', 'changes.rst'}])
def test_no_paragraph_is_long(page: str) -> None:
    for paragraph in paragraphs(page):
        assert len(paragraph.splitlines()) <= LONGEST, paragraph


@pytest.mark.parametrize('page', [page for page in PAGES if page not in LISTS])
def test_a_page_says_what_comes_next(page: str) -> None:
    last = text_of(page).rstrip().split('\n\n')[-1]
    assert last.startswith('Next: ')
    assert ':doc:`' in last


@pytest.mark.parametrize('page', PAGES)
def test_a_page_is_in_the_index_and_links_lead_somewhere(page: str) -> None:
    text = text_of(page)
    for target in re.findall(r':doc:`(?:[^`<]*<)?([^`>]+)>?`', text):
        path = (DOCS / page).parent / f'{target}.rst'
        assert path.is_file(), f'{page} leads to {target}'
    if page != 'index.rst':
        parent = (
            'tutorials/index.rst' if page.startswith('tutorials/') and page != 'tutorials/index.rst' else 'index.rst'
        )
        name = Path(page).with_suffix('').as_posix() if parent == 'index.rst' else Path(page).stem
        assert re.search(rf'^   {re.escape(name)}$', text_of(parent), re.M), f'{page} is not in the list of {parent}'


def test_no_sentence_stands_on_two_pages() -> None:
    where: dict[str, str] = {}
    for page in PAGES:
        if page == 'changes.rst':
            continue
        for paragraph in paragraphs(page):
            for sentence in re.split(r'(?<=[.:])\s+', ' '.join(paragraph.split())):
                if len(sentence) < 50 or sentence.startswith('Next:'):
                    continue
                assert where.setdefault(sentence, page) == page, f'{sentence!r} stands in {where[sentence]} and {page}'
