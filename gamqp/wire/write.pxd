# Types for write.py; no behaviour.
import cython

cdef bint TYPE_CHECKING
cdef int _MAX_DEPTH
cdef Py_ssize_t _MAX_LONG, _HEAD_SIZE, _OVERHEAD
cdef unsigned int _FRAME_END
cdef object datetime, Decimal, Mapping, _F32, _F64


@cython.final
cdef class Encoder:
    cdef bytearray _buf
    cdef unsigned char *_p
    cdef Py_ssize_t _len
    cdef Py_ssize_t _room
    cdef unsigned int _bit
    cdef Py_ssize_t _bit_end

    cpdef bytes getvalue(self)
    cpdef bytearray detach(self)
    cpdef Py_ssize_t tell(self) except -1
    cpdef int u8(self, unsigned int value) except -1
    cpdef int u16(self, unsigned int value) except -1
    cpdef int u32(self, unsigned int value) except -1
    cpdef int u64(self, unsigned long long value) except -1
    cpdef int patch_u16(self, Py_ssize_t at, unsigned int value) except -1
    cpdef int patch_u32(self, Py_ssize_t at, unsigned int value) except -1
    cpdef int raw(self, bytes value) except -1
    @cython.locals(start=Py_ssize_t, source="const char *")
    cpdef int part(self, bytes value, Py_ssize_t at, Py_ssize_t n) except -1
    @cython.locals(at="unsigned int", last=Py_ssize_t)
    cpdef int bit(self, bint value) except -1
    @cython.locals(at=Py_ssize_t)
    cpdef Py_ssize_t begin_frame(self, unsigned int kind, unsigned int channel_id) except -1
    @cython.locals(size=Py_ssize_t)
    cpdef int end_frame(self, Py_ssize_t at, Py_ssize_t frame_max, str what) except -1
    @cython.locals(at=Py_ssize_t)
    cdef Py_ssize_t _claim(self, Py_ssize_t n) except -1

    @cython.locals(text=str, octets=bytes, n=Py_ssize_t)
    cpdef int shortstr(self, object value) except -1
    @cython.locals(text=str, octets=bytes, n=Py_ssize_t)
    cpdef int longstr(self, object value) except -1
    cpdef int timestamp(self, object value) except -1
    cpdef int f32(self, object value) except -1
    cpdef int table(self, object value) except -1
    cpdef int array(self, object value) except -1
    @cython.locals(at=Py_ssize_t)
    cdef int _table(self, object value, int depth) except -1
    @cython.locals(at=Py_ssize_t, index=Py_ssize_t)
    cdef int _array(self, object value, int depth) except -1
    @cython.locals(at=Py_ssize_t)
    cdef Py_ssize_t _open(self, int depth) except -1
    @cython.locals(size=Py_ssize_t)
    cdef int _close(self, Py_ssize_t at) except -1
    cdef int _field(self, object value, int depth) except -1
    cdef int _rare_field(self, object value, int depth) except -1
    @cython.locals(number="long long")
    cdef int _integer(self, object value) except -1
    @cython.locals(number="long long")
    cdef int _decimal(self, object value) except -1


cpdef object ranged(object value, object low, object high)
