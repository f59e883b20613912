# Types for publish.py; no behaviour.
import cython

from .write cimport Encoder, ranged
from .methods cimport write_method
from .properties cimport write_properties

cdef bint TYPE_CHECKING
cdef unsigned int _BASIC, _PUBLISH, _METHOD, _HEADER, _BODY
cdef Py_ssize_t _ROOM, _UNLIMITED, _OVERHEAD, _MOST_TARGETS, _MOST_KEPT, _RARELY, _HEADER_START, _BODY_START_SIZE
cdef object _UNCHANGING, _BODY_START
cdef dict _targets
cdef PublishTarget _latest


@cython.final
cdef class KeptFrames:
    cdef tuple keys
    cdef tuple values
    cdef bytes start
    cdef bytes rest
    cdef Py_ssize_t longest


@cython.final
cdef class PublishTarget:
    cdef object channel_id
    cdef object exchange
    cdef object routing_key
    cdef unsigned int flags
    cdef bytes method
    cdef KeptFrames kept
    cdef Py_ssize_t misses

    cdef bint is_new(self) except -1
    @cython.locals(size=Py_ssize_t, table=tuple)
    cdef int keep(self, dict properties, bytearray frames, Py_ssize_t end) except -1


@cython.locals(octets=bytes, flags="unsigned int", known=PublishTarget, kept=KeptFrames)
cpdef object encode_publish(
    object channel_id,
    object exchange,
    object routing_key,
    object mandatory,
    object immediate,
    object properties,
    object body,
    Py_ssize_t frame_max,
)
@cython.locals(known=PublishTarget, key=tuple)
cdef PublishTarget _find(object channel_id, object exchange, object routing_key, unsigned int flags)
cdef bint _fits(Py_ssize_t longest, Py_ssize_t size, Py_ssize_t frame_max) noexcept
@cython.locals(at=Py_ssize_t)
cdef bint _same(dict given, tuple keys, tuple values) except -1
@cython.locals(values=list)
cdef tuple _snapshot(dict given)
@cython.locals(
    size=Py_ssize_t,
    first=Py_ssize_t,
    second=Py_ssize_t,
    frames=bytes,
    p="char *",
    head="const char *",
    tail="const char *",
    text="const char *",
)
cdef bytes _joined(bytes start, bytes rest, bytes body)
cdef void _put(char *p, unsigned int value) noexcept
@cython.locals(writer=Encoder, size=Py_ssize_t, end=Py_ssize_t, frames=bytearray)
cdef bytearray _encode_anew(PublishTarget known, object properties, bytes octets, Py_ssize_t frame_max)
@cython.locals(writer=Encoder, start=Py_ssize_t)
cdef bytes _method_frame(object channel_id, object exchange, object routing_key, unsigned int flags)
@cython.locals(writer=Encoder, octets=bytes)
cpdef bytearray encode_content(
    object channel_id, object sig, object args, object properties, object body, Py_ssize_t frame_max
)
@cython.locals(frames=Py_ssize_t)
cdef Py_ssize_t _room_for(Py_ssize_t size, Py_ssize_t frame_max) except -1
@cython.locals(start=Py_ssize_t)
cdef int _write_header(
    Encoder writer, unsigned int channel_id, object properties, Py_ssize_t size, Py_ssize_t frame_max, str what
) except -1
@cython.locals(size=Py_ssize_t, most=Py_ssize_t, at=Py_ssize_t, n=Py_ssize_t, start=Py_ssize_t)
cdef int _write_body(Encoder writer, unsigned int channel_id, bytes octets, Py_ssize_t frame_max) except -1
cdef bytes _body(object body)
