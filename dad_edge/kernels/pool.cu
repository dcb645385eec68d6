// Pool: masks of every time step to one anomaly map, its picture and one score a frame.
//
// pool_map: map = mean of the masks over λ; heat = map on the fixed scale [0, 1] to 0 .. 255,
//   rounded half to even, 255 where the map is NaN.
//   masks (L*B,1,S,S), row l * B + b; map (B,S,S) float; heat (B,S,S) uint8
//   keep  (S,S) uint8 or null: where it is 0 the pixel is ignored, its map and heat are 0.
//   broken (B) unsigned: where it is not 0, the map is NaN.
//   Launch: grid (ceil(ceil(S*S / 4) / threads), B), block (threads), say 256.
//
// pool_score: score (B) float = mean of the k largest counted pixels of the map, k >= 1, never more
//   than there are. Exact, ties included: four histogram passes of 8 bits over keys that order as
//   floats do find the k-th largest value T, and with the r values equal to T that still belong
//   score = (sum of values > T + r * T) / k.
//   NaN if a counted pixel is not finite or none is counted.
//   Launch: grid (B), block (threads), 1024 for speed, any number up to that is right.
#include "tensor.cuh"

template <typename T>
__device__ inline void pool_map(const T *masks, const unsigned char *keep,
                                const unsigned *broken, float *map, unsigned char *heat, int size, int lambdas) {
    const int pixels = size * size;
    const int start = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (start >= pixels) return;
    const int batch = gridDim.y, b = blockIdx.y;

    float mean[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int l = 0; l < lambdas; l++) {
        float mask[4];
        load4(masks + (size_t)(l * batch + b) * pixels, start, pixels, mask);
        for (int i = 0; i < 4; i++) mean[i] += mask[i];
    }
    const float no_number = __uint_as_float(0x7FC00000u);
    unsigned char *heat_b = heat + (size_t)b * pixels;
    for (int i = 0; i < 4 && start + i < pixels; i++) {
        const bool counted = keep == nullptr || keep[start + i];
        mean[i] = !counted ? 0.0f : broken[b] ? no_number : mean[i] / lambdas;
        const float level = rintf(mean[i] * 255.0f);
        heat_b[start + i] = level < 0.0f ? 0 : level < 255.0f ? (unsigned char)level : 255;
    }
    store4(map + (size_t)b * pixels, start, pixels, mean);
}

extern "C" __global__ void pool_map_f32(const float *masks, const unsigned char *keep,
                                        const unsigned *broken, float *map, unsigned char *heat,
                                        int size, int lambdas) {
    pool_map(masks, keep, broken, map, heat, size, lambdas);
}

extern "C" __global__ void pool_map_f16(const Half *masks, const unsigned char *keep,
                                        const unsigned *broken, float *map, unsigned char *heat,
                                        int size, int lambdas) {
    pool_map(masks, keep, broken, map, heat, size, lambdas);
}

// Unsigned integers that order as the floats do, from -Inf to +Inf.
__device__ inline unsigned order_key(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float value_of_key(unsigned key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

extern "C" __global__ void __launch_bounds__(1024)
    pool_score(const float *map, const unsigned char *keep, float *score, int size, int k) {
    __shared__ unsigned bins[256];
    __shared__ unsigned counted, not_finite, found_digit, found_remaining;
    __shared__ double sums[1024];
    const int pixels = size * size, thread = threadIdx.x, threads = blockDim.x;
    const float *values = map + (size_t)blockIdx.x * pixels;

    if (thread == 0) counted = not_finite = 0;
    __syncthreads();
    unsigned own_counted = 0, own_not_finite = 0;
    for (int i = thread; i < pixels; i += threads) {
        if (keep != nullptr && !keep[i]) continue;
        own_counted++;
        own_not_finite += !is_finite(values[i]);
    }
    atomicAdd(&counted, own_counted);
    if (own_not_finite) atomicAdd(&not_finite, own_not_finite);
    __syncthreads();
    if (counted == 0 || not_finite) {
        if (thread == 0) score[blockIdx.x] = __uint_as_float(0x7FC00000u);
        return;
    }
    const unsigned taken = (unsigned)k < counted ? (unsigned)k : counted;

    // After a pass, `prefix` holds the digits of T found so far and `remaining` how many of the
    // values that begin with them belong to the k largest.
    unsigned prefix = 0, remaining = taken;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int bin = thread; bin < 256; bin += threads) bins[bin] = 0;
        __syncthreads();
        // Most pixels of a good part fall into one bin: each thread adds up runs of equal digits
        // before it touches the shared counter that all of them want.
        unsigned run_digit = 0, run = 0;
        for (int i = thread; i < pixels; i += threads) {
            if (keep != nullptr && !keep[i]) continue;
            const unsigned key = order_key(values[i]);
            if (shift < 24 && (key >> (shift + 8)) != prefix) continue;
            const unsigned digit = key >> shift & 255u;
            if (digit != run_digit) {
                if (run) atomicAdd(&bins[run_digit], run);
                run_digit = digit;
                run = 0;
            }
            run++;
        }
        if (run) atomicAdd(&bins[run_digit], run);
        __syncthreads();
        // Exactly one digit has fewer than `remaining` values above it and no fewer with it.
        for (int digit = thread; digit < 256; digit += threads) {
            unsigned above = 0;
            for (int other = 255; other > 0; other--) above += other > digit ? bins[other] : 0;
            if (above < remaining && remaining <= above + bins[digit]) {
                found_digit = digit;
                found_remaining = remaining - above;
            }
        }
        __syncthreads();
        prefix = prefix << 8 | found_digit;
        remaining = found_remaining;
    }

    // At most k values are added, so double costs nothing and the order of threads does not show.
    double sum = 0.0;
    for (int i = thread; i < pixels; i += threads) {
        if (keep != nullptr && !keep[i]) continue;
        if (order_key(values[i]) > prefix) sum += values[i];
    }
    sums[thread] = sum;
    __syncthreads();
    for (int half = 512; half > 0; half /= 2) {
        if (thread < half && thread + half < threads) sums[thread] += sums[thread + half];
        __syncthreads();
    }
    if (thread == 0) {
        const double last = (double)remaining * value_of_key(prefix);
        score[blockIdx.x] = (float)((sums[0] + last) / taken);
    }
}
