# Types for read.py; no behaviour.
import cython

cdef bint TYPE_CHECKING
cdef int _MAX_DEPTH
cdef unsigned long long _LAST_SECOND
cdef object datetime, timedelta, Decimal, _EPOCH, _F32, _F64


@cython.final
cdef class Reader:
    cdef bytes _data
    cdef const unsigned char *_p
    cdef Py_ssize_t _pos
    cdef Py_ssize_t _end
    cdef unsigned int _bits
    cdef unsigned int _bit
    cdef Py_ssize_t _bit_end

    @cython.locals(at=Py_ssize_t)
    cdef Py_ssize_t _take(self, Py_ssize_t n) except -1
    cdef object _short_of(self, Py_ssize_t n)

    @cython.locals(at=Py_ssize_t)
    cpdef unsigned int u8(self) except? 0xFF
    @cython.locals(at=Py_ssize_t)
    cpdef unsigned int u16(self) except? 0xFFFF
    @cython.locals(at=Py_ssize_t, top="unsigned int")
    cpdef unsigned int u32(self) except? 0xFFFFFFFF
    @cython.locals(at=Py_ssize_t, high="unsigned long long")
    cpdef unsigned long long u64(self) except? 0xFFFFFFFFFFFFFFFF
    @cython.locals(at=Py_ssize_t)
    cpdef bytes raw(self, Py_ssize_t n)
    @cython.locals(value="unsigned int")
    cpdef bint bit(self) except -1
    cpdef object shortstr(self)
    cpdef object longstr(self)
    @cython.locals(at=Py_ssize_t)
    cdef object _text(self, Py_ssize_t n)
    cpdef object f32(self)
    cpdef object f64(self)
    @cython.locals(seconds="unsigned long long")
    cpdef object timestamp(self)
    @cython.locals(scale=int, unscaled="long long")
    cpdef object decimal(self)
    cpdef dict table(self)
    cpdef list array(self)
    @cython.locals(outer=Py_ssize_t, values=dict)
    cdef dict _table(self, int depth)
    @cython.locals(outer=Py_ssize_t, values=list)
    cdef list _array(self, int depth)
    @cython.locals(size="unsigned int", start=Py_ssize_t, outer=Py_ssize_t)
    cdef Py_ssize_t _enter(self, int depth) except -1
    @cython.locals(tag="unsigned int")
    cdef object _field(self, int depth)
    cdef object _rare_field(self, unsigned int tag)


@cython.locals(half="unsigned long long")
cdef long long _signed(unsigned long long value, int width) noexcept
