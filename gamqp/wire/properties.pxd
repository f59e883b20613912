# Types for properties.py; no behaviour.
import cython

from .read cimport Reader
from .write cimport Encoder, ranged

cdef bint TYPE_CHECKING
cdef int _SHORTSTR, _OCTET, _TABLE, _TIMESTAMP
cdef unsigned int _CONTINUED, _UNASSIGNED, _FIRST_FLAG
cdef tuple _ROWS


@cython.locals(reader=Reader, flags="unsigned int", flag="unsigned int", kind=int, properties=dict)
cpdef dict decode_properties(bytes payload, Py_ssize_t offset)
@cython.locals(flags="unsigned int", more="unsigned int")
cdef unsigned int _read_flags(Reader reader) except? 0xFFFF
@cython.locals(given=dict, flags="unsigned int", flag="unsigned int", start=Py_ssize_t, kind=int)
cpdef int write_properties(Encoder writer, object properties) except -1
