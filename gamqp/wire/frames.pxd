# Types for frames.py; no behaviour.
import cython

from .content cimport Content
from .methods cimport decode_args

cdef bint TYPE_CHECKING
cdef unsigned int _METHOD, _HEADER, _BODY, _END, _BASIC, _CONNECTION, _DELIVER, _GET_OK, _ACK
cdef Py_ssize_t _MAX_CONTROL, _HEAD_SIZE, _OVERHEAD, _FIXED, _LIGHT, _BETWEEN
cdef object _DELIVER_SIG
cdef dict _BY_KEY


cdef class Decoder:
    cdef public object error
    cdef public object heartbeats
    cdef public long long frame_max
    cdef public long long max_body
    cdef type _content_class
    cdef object _assembly
    cdef object _buffer
    cdef dict _halves
    cdef Py_ssize_t _need
    cdef object _tag
    cdef bytes _tag_octets

    cpdef object room(self)
    @cython.locals(events=list, data=bytearray, start=Py_ssize_t, end=Py_ssize_t)
    cpdef list commit(self, Py_ssize_t n)
    cdef object _fail(self, object exc)

    @cython.locals(
        p="const unsigned char *",
        usual="long long",
        pos=Py_ssize_t,
        after="long long",
        kind="unsigned int",
        channel_id="unsigned int",
        size="long long",
    )
    cdef Py_ssize_t _cut(self, bytearray data, Py_ssize_t start, Py_ssize_t end, list events) except -1
    cdef object _on_rare(self, unsigned int kind, unsigned int channel_id, long long size, bytes frame, list events)
    cdef Py_ssize_t _check_start(self, unsigned int kind, unsigned int channel_id, long long size, bytes head) except -1
    @cython.locals(
        p="const unsigned char *",
        at=Py_ssize_t,
        key="unsigned int",
        row=tuple,
        content=Content,
        content_follows=bint,
        stop=Py_ssize_t,
    )
    cdef Py_ssize_t _on_method(
        self, bytearray data, Py_ssize_t pos, Py_ssize_t after, Py_ssize_t end, unsigned int channel_id, list events
    ) except -1
    @cython.locals(
        p="const unsigned char *",
        octets="const unsigned char *",
        cls=type,
        content=Content,
        tag_at=Py_ssize_t,
        is_same=bint,
    )
    cdef Content _begin(
        self, object sig, unsigned int key, bytearray data, Py_ssize_t at, Py_ssize_t stop, unsigned int channel_id
    )
    @cython.locals(
        p="const unsigned char *",
        kind="unsigned int",
        channel="unsigned int",
        size="long long",
        class_id="unsigned int",
        total="long long",
        body="long long",
        stop="long long",
    )
    cdef Py_ssize_t _complete(
        self, Content content, bytearray data, Py_ssize_t args_at, Py_ssize_t pos, Py_ssize_t end
    ) except? -2
    @cython.locals(content=Content, header=bytes)
    cdef object _finish(self, object half, list events)


cdef object _decode(object sig, unsigned int key, bytes args)
@cython.locals(top="unsigned int")
cdef unsigned int _be32(const unsigned char *p, Py_ssize_t at) noexcept
@cython.locals(high="unsigned long long")
cdef unsigned long long _be64(const unsigned char *p, Py_ssize_t at) noexcept
cdef object _text(bytes octets)
