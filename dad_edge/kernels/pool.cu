// Pool: masks of every time step to one anomaly map, its picture and one score a frame.
//
// pool_map: map = mean of the masks over λ; heat = map on the fixed scale [0, 1] to 0 .. 255,
//   rounded half to even, 255 where the map is NaN.
//   masks (L*B,1,S,S), row l * B + b; map (B,S,S) float; heat (B,S,S) uint8
//   keep  (S,S) uint8 or null: where it is 0 the pixel is ignored, its map and heat are 0.
//   broken (B) unsigned: where it is not 0, the map is NaN.
//   counts (B,3,2048) unsigned, set to 0 for pool_count.
//   Launch: grid (ceil(ceil(S*S / 4) / threads), B), block (threads), say 256.
//
// pool_count, three times, digit 0, 1, 2: how many pixels have each value of one digit, of those
//   that have the digits of the k-th largest value before it. Digits are 11, 11 and 10 bits of keys
//   that order as floats do, the highest first.
//   counts (B,3,2048), the earlier ones of this frame complete
//   Launch: grid (any, B), block (up to 1024), enough for four pixels a thread for speed.
//
// pool_score: score (B) float = mean of the k largest counted pixels of the map, k >= 1, never more
//   than there are. Exact, ties included: the three digits are the k-th largest value T, and with
//   the r values equal to T that still belong score = (sum of values > T + r * T) / k.
//   NaN if a counted pixel is not finite or none is counted.
//   Launch: grid (B), block (threads), 1024 for speed, any number up to that is right.
#include "tensor.cuh"

const int DIGITS = 3, BINS = 2048;

template <typename T>
__device__ inline void pool_map(const T *masks, const unsigned char *keep,
                                const unsigned *broken, float *map, unsigned char *heat,
                                unsigned *counts, int size, int lambdas) {
    const int pixels = size * size;
    const int thread = blockIdx.x * blockDim.x + threadIdx.x, start = 4 * thread;
    const int batch = gridDim.y, b = blockIdx.y;
    for (int i = thread; i < DIGITS * BINS; i += gridDim.x * blockDim.x)
        counts[(size_t)b * DIGITS * BINS + i] = 0;
    if (start >= pixels) return;

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
                                        unsigned *counts, int size, int lambdas) {
    pool_map(masks, keep, broken, map, heat, counts, size, lambdas);
}

extern "C" __global__ void pool_map_f16(const Half *masks, const unsigned char *keep,
                                        const unsigned *broken, float *map, unsigned char *heat,
                                        unsigned *counts, int size, int lambdas) {
    pool_map(masks, keep, broken, map, heat, counts, size, lambdas);
}

// Unsigned integers that order as the floats do, from -Inf to +Inf.
__device__ inline unsigned order_key(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float value_of_key(unsigned key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

// One digit of a key: bits 31 to 21, 20 to 10, 9 to 0.
__device__ inline unsigned digit_of(unsigned key, int digit) {
    return digit == 0 ? key >> 21 : digit == 1 ? key >> 10 & 2047u : key & 1023u;
}

// The digits of a key before this one, all its bits for the one behind the last.
__device__ inline unsigned before(unsigned key, int digit) {
    return digit == 0 ? 0 : digit == 1 ? key >> 21 : digit == 2 ? key >> 10 : key;
}

// What all threads of a block find out together about the k-th largest value.
struct Found {
    unsigned prefix;     // the digits of it that are counted
    unsigned remaining;  // how many of the values that begin with them belong to the k largest
    unsigned counted;    // pixels in all
};

// From the counts of a frame's first digits; all threads of the block have to call it.
__device__ inline Found find(const unsigned *counts, int digits, unsigned k) {
    __shared__ unsigned sums[256];
    __shared__ unsigned found_digit, found_remaining;
    const unsigned thread = threadIdx.x;
    const unsigned workers = blockDim.x < 256 ? blockDim.x : 256;
    const unsigned share = (BINS + workers - 1) / workers, first = thread * share;
    Found found = {0, k, 0};
    for (int digit = 0; digit < digits; digit++) {
        const unsigned *bins = counts + digit * BINS;
        if (thread < workers) {
            unsigned sum = 0;
            for (unsigned bin = first; bin < first + share && bin < BINS; bin++) sum += bins[bin];
            sums[thread] = sum;
        }
        if (thread == 0) found_digit = found_remaining = 0;
        __syncthreads();
        unsigned all = 0, above = 0;
        for (unsigned other = 0; other < workers; other++) {
            all += sums[other];
            if (other > thread) above += sums[other];
        }
        if (digit == 0) found.counted = all;
        if (found.remaining > all) found.remaining = all;
        // Exactly one digit has fewer than `remaining` values above it and no fewer with it.
        if (thread < workers && first < BINS) {
            unsigned last = first + share < BINS ? first + share : BINS;
            for (unsigned bin = last; bin-- > first;) {
                const unsigned here = bins[bin];
                if (above < found.remaining && found.remaining <= above + here) {
                    found_digit = bin;
                    found_remaining = found.remaining - above;
                }
                above += here;
            }
        }
        __syncthreads();
        found.prefix = found.prefix << (digit == 2 ? 10 : 11) | found_digit;
        found.remaining = found_remaining;
        __syncthreads();
    }
    return found;
}

extern "C" __global__ void __launch_bounds__(1024)
    pool_count(const float *map, const unsigned char *keep, unsigned *counts, int size, int k,
               int digit) {
    __shared__ unsigned bins[BINS];
    const int pixels = size * size, b = blockIdx.y;
    const float *values = map + (size_t)b * pixels;
    unsigned *own = counts + (size_t)b * DIGITS * BINS;

    for (int bin = threadIdx.x; bin < BINS; bin += blockDim.x) bins[bin] = 0;
    const Found found = find(own, digit, (unsigned)k);
    __syncthreads();
    // Most pixels of a good part fall into one bin: each thread adds up runs of equal digits before
    // it touches the shared counter that all of them want.
    unsigned run_digit = 0, run = 0;
    const int step = 4 * gridDim.x * blockDim.x;
    for (int start = 4 * (blockIdx.x * blockDim.x + threadIdx.x); start < pixels; start += step) {
        float four[4];
        load4(values, start, pixels, four);
        for (int i = 0; i < 4 && start + i < pixels; i++) {
            if (keep != nullptr && !keep[start + i]) continue;
            const unsigned key = order_key(four[i]);
            if (before(key, digit) != found.prefix) continue;
            const unsigned value = digit_of(key, digit);
            if (value != run_digit) {
                if (run) atomicAdd(&bins[run_digit], run);
                run_digit = value;
                run = 0;
            }
            run++;
        }
    }
    if (run) atomicAdd(&bins[run_digit], run);
    __syncthreads();
    for (int bin = threadIdx.x; bin < BINS; bin += blockDim.x)
        if (bins[bin]) atomicAdd(&own[digit * BINS + bin], bins[bin]);
}

extern "C" __global__ void __launch_bounds__(1024)
    pool_score(const float *map, const unsigned char *keep, const unsigned *counts, float *score,
               int size, int k) {
    __shared__ unsigned not_finite;
    __shared__ double sums[1024];
    const int pixels = size * size, thread = threadIdx.x, threads = blockDim.x;
    const float *values = map + (size_t)blockIdx.x * pixels;

    if (thread == 0) not_finite = 0;
    const Found found = find(counts + (size_t)blockIdx.x * DIGITS * BINS, DIGITS, (unsigned)k);
    __syncthreads();

    // At most k values are added, so double costs nothing and the order of threads does not show.
    double sum = 0.0;
    unsigned own_not_finite = 0;
    for (int i = thread; i < pixels; i += threads) {
        if (keep != nullptr && !keep[i]) continue;
        own_not_finite += !is_finite(values[i]);
        if (order_key(values[i]) > found.prefix) sum += values[i];
    }
    if (own_not_finite) atomicAdd(&not_finite, own_not_finite);
    sums[thread] = sum;
    __syncthreads();
    for (int half = 512; half > 0; half /= 2) {
        if (thread < half && thread + half < threads) sums[thread] += sums[thread + half];
        __syncthreads();
    }
    if (thread == 0) {
        const unsigned taken = (unsigned)k < found.counted ? (unsigned)k : found.counted;
        const double last = (double)found.remaining * value_of_key(found.prefix);
        const float mean = (float)((sums[0] + last) / taken);
        score[blockIdx.x] = taken == 0 || not_finite ? __uint_as_float(0x7FC00000u) : mean;
    }
}
