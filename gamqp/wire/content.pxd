# Types for content.py; no behaviour.
import cython

from .methods cimport decode_args
from .properties cimport decode_properties

cdef bint TYPE_CHECKING


@cython.final
cdef class PropertyAttribute:
    cdef str _name


cdef class Content:
    cdef public object channel
    cdef public unsigned int _channel_id
    cdef public object _method
    cdef public object delivery_tag
    cdef public object consumer_tag
    cdef public bint redelivered
    cdef public bint _auto_decode
    cdef public Py_ssize_t _size
    cdef public Py_ssize_t _weight
    cdef bytes _head
    cdef Py_ssize_t _header_at
    cdef object _body
    cdef object _properties
    cdef object _delivery_info

    cdef bint _is_encoded(self) except -1
    cdef object _decode_body(self)
    cdef bytes _args(self)
    cdef object _decode_info(self)
    @cython.locals(other=Content)
    cdef object _copy(self, dict memo)


@cython.locals(head=bytes, total=Py_ssize_t, size=Py_ssize_t, at=Py_ssize_t)
cpdef Py_ssize_t add_frames(Content content, list parts) except -1
@cython.locals(content=Content, tag=object, channel_id="unsigned int", stop=Py_ssize_t)
cpdef Py_ssize_t end_of_run(list events, Py_ssize_t at) except -1
@cython.locals(content=Content, weight=Py_ssize_t, redelivered=Py_ssize_t)
cpdef tuple note_run(list run, object channel, bint auto_decode, object unacked, object entry)
