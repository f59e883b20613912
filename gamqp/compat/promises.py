"""``promise``, which py-amqp's users import: vine's where vine is installed (kombu installs it), else a small copy.

Layer 5. gamqp itself takes any callable for ``callback=`` and ``on_open=``, and
calls it; a promise is a callable. Does not belong here: anything that waits.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ('promise',)


class _Promise:
    """A function to be called later, and what is to be called after it.

    fun: called with *args*, then the arguments of the call; None passes those on.
    callback: as for ``then``. on_error: takes the exception that fun raised, which
    otherwise comes out of the call. ignore_result: ``then`` gets no arguments.
    """

    def __init__(
        self,
        fun: Callable[..., Any] | None = None,
        args: Any = None,
        kwargs: dict[str, Any] | None = None,
        callback: Any = None,
        on_error: Callable[..., Any] | None = None,
        weak: bool = False,
        ignore_result: bool = False,
    ) -> None:
        if fun is not None and not callable(fun):
            raise TypeError(f'promise: {fun!r} cannot be called')
        if weak:
            raise NotImplementedError('promise(weak=True) needs vine: pip install vine')
        self.fun = fun
        self.args = tuple(args or ())
        self.kwargs = dict(kwargs or {})
        self.on_error = on_error
        self.ignore_result = ignore_result
        self.ready = self.failed = self.cancelled = False
        self.value: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.reason: BaseException | None = None
        self._pending: list[Any] = []
        if callback is not None:
            self.then(callback)

    def __repr__(self) -> str:
        state = 'cancelled' if self.cancelled else 'failed' if self.failed else 'ready' if self.ready else 'pending'
        return f'<promise {state}: {self.fun!r}>'

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it now. Returns what the function returned; raises what it raised unless on_error takes it."""
        if self.cancelled:
            return None
        args, kwargs = self.args + args, {**self.kwargs, **kwargs}
        result = None
        if self.fun is not None:
            try:
                result = self.fun(*args, **kwargs)
            except Exception as exc:
                self.throw(exc)
                return None
            args, kwargs = (() if self.ignore_result else (result,)), {}
        self.value = args, kwargs
        self.ready = True
        pending, self._pending = self._pending, []
        for one in pending:
            one(*args, **kwargs)
        return result

    def then(self, callback: Any, on_error: Callable[..., Any] | None = None) -> Any:
        """Call *callback* with the result: now if there is one, else when there is. Returns a promise for it."""
        following = callback if isinstance(callback, _Promise) else _Promise(callback, on_error=on_error)
        if self.cancelled:
            following.cancel()
        elif self.failed:
            following.throw(self.reason)
        elif self.ready and self.value is not None:
            following(*self.value[0], **self.value[1])
        else:
            self._pending.append(following)
        return following

    def throw(self, exc: Any = None, tb: Any = None, propagate: bool = True) -> None:
        """It has failed: call on_error, and ``throw`` of all that follow; raise *exc* where there is no on_error."""
        if self.cancelled:
            return
        self.failed, self.reason = True, exc
        if self.on_error is not None:
            self.on_error(*self.args, exc, **self.kwargs)
        pending, self._pending = self._pending, []
        for one in pending:
            one.throw(exc, propagate=False)
        if self.on_error is None and propagate:
            raise exc if tb is None else exc.with_traceback(tb)

    def cancel(self) -> None:
        """Do not call it, nor the promises that follow it, any more."""
        self.cancelled = True
        pending, self._pending = self._pending, []
        for one in pending:
            one.cancel()


promise: Any
try:
    promise = importlib.import_module('vine').promise
except ImportError:
    promise = _Promise
