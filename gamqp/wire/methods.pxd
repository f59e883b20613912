# Types for methods.py; no behaviour.
import cython

from .read cimport Reader
from .write cimport Encoder, ranged

cdef bint TYPE_CHECKING
cdef dict _FORMATS
cdef unsigned int _ACK, _REJECT, _NACK, _SETTLE_SIZE


@cython.locals(letters=str)
cpdef tuple decode_args(object sig, bytes payload, Py_ssize_t offset)
@cython.locals(writer=Encoder)
cpdef bytes encode_method(object channel_id, object sig, object args, Py_ssize_t frame_max=*)
@cython.locals(start=Py_ssize_t)
cpdef int write_method(Encoder writer, object channel_id, object sig, object args, Py_ssize_t frame_max) except -1
cpdef bytes encode_ack(object channel_id, object delivery_tag, object multiple)
cpdef bytes encode_nack(object channel_id, object delivery_tag, object multiple, object requeue)
cpdef bytes encode_reject(object channel_id, object delivery_tag, object requeue)
cdef bytes _settle(unsigned int method_id, object channel_id, object delivery_tag, unsigned int bits)
@cython.locals(frame=bytes, p="char *", at=int)
cdef bytes _settle_frame(
    unsigned int method_id, unsigned int channel_id, unsigned long long delivery_tag, unsigned int bits
)
@cython.locals(values=list, letter=Py_UCS4)
cdef list _read(str letters, Reader reader)
cdef object _read_one(Py_UCS4 letter, Reader reader)
cdef int _write_args(Encoder writer, tuple args, object values) except -1
cdef int _write_one(Encoder writer, Py_UCS4 letter, object value) except -1
