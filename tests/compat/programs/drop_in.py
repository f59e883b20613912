"""install_as_amqp, each case in a process of its own: ``drop_in.py CASE``."""

from __future__ import annotations

import importlib
import sys
import warnings

import inside

MODULES = (
    'basic_message', 'channel', 'connection', 'exceptions', 'protocol', 'sasl', 'serialization', 'spec', 'transport',
    'utils',
)  # fmt: skip


def _install() -> None:
    """In a process that is not patched, as most cases here."""
    import gamqp

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        gamqp.install_as_amqp()


def recovery_is_left_to_kombu() -> None:
    _install()
    import amqp

    try:
        amqp.Connection(recover=True)
    except ValueError as exc:
        assert 'kombu' in str(exc), exc
    else:
        raise AssertionError('two recoveries would fight')


def every_module_is_ours() -> None:
    import gamqp

    _install()
    _install()
    import amqp
    import amqp.connection
    from amqp import Connection, exceptions
    from amqp.exceptions import NotFound
    from amqp.spec import Basic

    assert amqp is gamqp
    assert Connection is gamqp.Connection is amqp.connection.Connection
    assert NotFound is gamqp.NotFound is exceptions.NotFound
    assert Basic.Ack == (60, 80)
    for name in MODULES:
        assert importlib.import_module(f'amqp.{name}') is importlib.import_module(f'gamqp.{name}')
    twins = [
        name for name in sys.modules if name.startswith('amqp') and sys.modules[name] is not sys.modules['g' + name]
    ]
    assert not twins, twins


def what_py_amqp_has_and_we_have_not_is_an_import_error() -> None:
    _install()
    for name in ('abstract_channel', 'method_framing', 'platform'):
        try:
            importlib.import_module(f'amqp.{name}')
        except ModuleNotFoundError:
            continue
        raise AssertionError(f'amqp.{name} is somebody else')


def too_late_is_refused_and_changes_nothing() -> None:
    import amqp

    before = {name: module for name, module in sys.modules.items() if name.partition('.')[0] == 'amqp'}
    import gamqp

    try:
        gamqp.install_as_amqp()
    except RuntimeError as error:
        for part in ('too late', amqp.__file__, 'gamqp.kombu:Transport', 'python -m gamqp celery'):
            assert part in str(error), error
    else:
        raise AssertionError('the real one was replaced')
    assert before == {name: module for name, module in sys.modules.items() if name.partition('.')[0] == 'amqp'}
    assert amqp.Connection is not gamqp.Connection


def errors_survive_pickle_under_either_name() -> None:
    import pickle

    import gamqp

    _install()
    import amqp

    error = pickle.loads(pickle.dumps(amqp.NotFound('gone', (50, 10))))
    assert type(error) is gamqp.NotFound and error.reply_text == 'gone'


def a_process_that_is_not_patched_is_warned_once() -> None:
    import gamqp

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        gamqp.install_as_amqp()
        gamqp.install_as_amqp()
    assert [one.category for one in caught] == [RuntimeWarning], caught
    assert caught[0].filename == __file__
    for word in ('gevent', 'eventlet', 'patch', 'thread', 'WrongThread', 'heartbeat'):
        assert word in str(caught[0].message), word


def a_warning_that_is_an_error_changes_nothing() -> None:
    import gamqp

    before = {name for name in sys.modules if name.partition('.')[0] == 'amqp'}
    try:
        gamqp.install_as_amqp()
    except RuntimeWarning:
        pass
    else:
        raise AssertionError('no warning')
    assert {name for name in sys.modules if name.partition('.')[0] == 'amqp'} == before
    assert not inside.heartbeat_needs_patching()


def a_process_that_gevent_has_patched_is_not_warned() -> None:
    from gevent import monkey

    monkey.patch_all()
    import gamqp

    gamqp.install_as_amqp()


def a_process_that_eventlet_has_patched_is_not_warned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        import eventlet

        eventlet.monkey_patch()
    import gamqp

    gamqp.install_as_amqp()


def the_promise_without_vine() -> None:
    sys.modules['vine'] = None  # type: ignore[assignment]
    import gamqp

    assert gamqp.promise.__module__ == 'gamqp.compat.promises'
    assert gamqp.utils.promise is gamqp.promise
    seen: list[object] = []
    pending = gamqp.promise(lambda *args: args)
    pending.then(seen.append)
    assert pending(1, 2) == (1, 2) and seen == [(1, 2)] and pending.ready
    pending.then(gamqp.promise(seen.append))
    assert seen == [(1, 2), (1, 2)]
    failing = gamqp.promise(lambda: 1 / 0, on_error=seen.append)
    failing()
    assert isinstance(seen[-1], ZeroDivisionError) and failing.failed
    try:
        gamqp.promise(lambda: 1 / 0)()
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError('an error was swallowed')
    cancelled = gamqp.promise(seen.append)
    cancelled.cancel()
    cancelled(5)
    assert 5 not in seen
    following = gamqp.promise(callback=seen.append)
    following('passed on')
    assert seen[-1] == 'passed on'


if __name__ == '__main__':
    globals()[sys.argv[1]]()
    print('done')
