// Tensor elements in float, half or bfloat16 without any CUDA header, so that NVRTC alone can
// compile it.
// A kernel computes in float and rounds once, when it stores.
#pragma once

struct Half {
    unsigned short bits;
};

// The upper half of a float.
struct BFloat {
    unsigned short bits;
};

#ifdef __CUDACC__
__device__ inline float half_bits_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ inline unsigned short float_to_half_bits(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

// Neither NaN nor an infinity; not fmaxf or fminf, which drop NaN.
__device__ inline bool is_finite(float value) { return fabsf(value) <= 3.402823466e38f; }

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(Half value) { return half_bits_to_float(value.bits); }
__device__ inline float to_float(BFloat value) { return __uint_as_float((unsigned)value.bits << 16); }
__device__ inline void set(float &to, float value) { to = value; }
__device__ inline void set(Half &to, float value) { to.bits = float_to_half_bits(value); }
__device__ inline void set(BFloat &to, float value) {  // to the nearest, ties to even
    const unsigned bits = __float_as_uint(value);
    to.bits = value != value ? 0x7FC0 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

// Four neighbouring elements, moved as one access where the address allows it.
template <typename T>
struct alignas(4 * sizeof(T)) Four {
    T at[4];
};

// Elements start .. start + 3 of an array of `size`; those beyond its end read as 0. `start` is a
// multiple of 4, so the wide access is aligned whenever `size` is a multiple of 4 too (then every
// row of a tensor of such rows is).
template <typename T>
__device__ inline void load4(const T *from, int start, int size, float value[4]) {
    if (size % 4 == 0) {
        const Four<T> four = *(const Four<T> *)(from + start);
        for (int i = 0; i < 4; i++) value[i] = to_float(four.at[i]);
    } else {
        for (int i = 0; i < 4; i++) value[i] = start + i < size ? to_float(from[start + i]) : 0.0f;
    }
}

template <typename T>
__device__ inline void store4(T *to, int start, int size, const float value[4]) {
    if (size % 4 == 0) {
        Four<T> four;
        for (int i = 0; i < 4; i++) set(four.at[i], value[i]);
        *(Four<T> *)(to + start) = four;
    } else {
        for (int i = 0; i < 4; i++)
            if (start + i < size) set(to[start + i], value[i]);
    }
}
