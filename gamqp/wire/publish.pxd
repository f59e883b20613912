# Types for publish.py; no behaviour.
import cython

from .write cimport Encoder, ranged
from .methods cimport write_method
from .properties cimport write_properties

cdef bint TYPE_CHECKING
cdef unsigned int _BASIC, _PUBLISH, _METHOD, _HEADER, _BODY
cdef Py_ssize_t _ROOM, _UNLIMITED, _OVERHEAD


@cython.locals(writer=Encoder, octets=bytes, channel="unsigned int", start=Py_ssize_t)
cpdef bytearray encode_publish(
    object channel_id,
    object exchange,
    object routing_key,
    object mandatory,
    object immediate,
    object properties,
    object body,
    Py_ssize_t frame_max,
)
@cython.locals(writer=Encoder, octets=bytes)
cpdef bytearray encode_content(
    object channel_id, object sig, object args, object properties, object body, Py_ssize_t frame_max
)
@cython.locals(frames=Py_ssize_t)
cdef Py_ssize_t _room_for(Py_ssize_t size, Py_ssize_t frame_max) except -1
@cython.locals(start=Py_ssize_t, size=Py_ssize_t)
cdef int _write_content(
    Encoder writer, unsigned int channel_id, object properties, bytes octets, Py_ssize_t frame_max, str what
) except -1
@cython.locals(size=Py_ssize_t, most=Py_ssize_t, at=Py_ssize_t, n=Py_ssize_t, start=Py_ssize_t)
cdef int _write_body(Encoder writer, unsigned int channel_id, bytes octets, Py_ssize_t frame_max) except -1
cdef bytes _body(object body)
