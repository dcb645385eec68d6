// Just enough of CUDA for g++ to compile the project's kernels and run them on a CPU.
// Blocks run one after another. The threads of a block are a plain loop, or for a kernel that
// synchronises real threads and a barrier.
#pragma once
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define __noinline__  // after the standard headers, which use the word themselves

struct Index {
    unsigned x, y, z;
};
inline thread_local Index threadIdx;
inline Index blockIdx, blockDim, gridDim;
inline std::barrier<> *block_barrier = nullptr;

inline void __syncthreads() { block_barrier->arrive_and_wait(); }
inline unsigned atomicAdd(unsigned *at, unsigned add) {
    return std::atomic_ref<unsigned>(*at).fetch_add(add);
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (std::uint64_t)a * b >> 32; }
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline void sincospif(float x, float *sine, float *cosine) {
    *sine = (float)std::sin(M_PI * x);
    *cosine = (float)std::cos(M_PI * x);
}

// Half precision by arithmetic: std::nearbyint rounds to even, as the hardware does.
inline float half_bits_to_float(unsigned short bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float value = std::ldexp((float)mantissa, -24);
    if (exponent == 31) value = mantissa ? NAN : INFINITY;
    else if (exponent > 0) value = std::ldexp((float)(mantissa + 1024), exponent - 25);
    return bits >> 15 ? -value : value;
}
inline unsigned short float_to_half_bits(float value) {
    const unsigned short sign = std::signbit(value) ? 0x8000 : 0;
    const float size = std::fabs(value);
    if (std::isnan(value)) return sign | 0x7E00;
    if (size >= 65520.0f) return sign | 0x7C00;
    int exponent = 0;
    std::frexp(size, &exponent);
    if (size == 0 || exponent < -13) return sign | (unsigned short)std::nearbyint(std::ldexp(size, 24));
    // A mantissa rounded up to 2048 carries into the exponent, as it should.
    const int mantissa = (int)std::nearbyint(std::ldexp(size, 11 - exponent));
    return sign | (unsigned short)(((exponent + 13) << 10) + mantissa);
}

// Arguments come as cuLaunchKernel takes them: an array of pointers to the values.
template <typename... Args, std::size_t... I>
void call(void (*kernel)(Args...), void **args, std::index_sequence<I...>) {
    kernel(*(Args *)args[I]...);
}

template <typename... Args>
void launch(void (*kernel)(Args...), bool synchronises, unsigned grid_x, unsigned grid_y,
            unsigned threads, void **args) {
    gridDim = {grid_x, grid_y, 1};
    blockDim = {threads, 1, 1};
    for (unsigned block = 0; block < grid_x * grid_y; block++) {
        blockIdx = {block % grid_x, block / grid_x, 0};
        auto run = [=](unsigned thread) {
            threadIdx = {thread, 0, 0};
            call(kernel, args, std::index_sequence_for<Args...>{});
        };
        if (!synchronises) {
            for (unsigned thread = 0; thread < threads; thread++) run(thread);
            continue;
        }
        std::barrier barrier(threads);
        block_barrier = &barrier;
        std::vector<std::jthread> running;
        for (unsigned thread = 0; thread < threads; thread++) running.emplace_back(run, thread);
    }
}

template <typename... Args>
unsigned sizes_of(void (*)(Args...), unsigned *sizes) {
    unsigned count = 0;
    ((sizes[count++] = sizeof(Args)), ...);
    return count;
}

#define LAUNCHER(kernel, synchronises)                                                        \
    extern "C" unsigned sizes_##kernel(unsigned *sizes) { return sizes_of(kernel, sizes); }   \
    extern "C" void launch_##kernel(unsigned grid_x, unsigned grid_y, unsigned threads,       \
                                    void **args) {                                            \
        launch(kernel, synchronises, grid_x, grid_y, threads, args);                          \
    }
