// GroupNorm, and SiLU behind it where asked, of tensors whose channels lie together.
//
//   y = (x - mean) / sqrt(variance + epsilon) * gain[c] + offset[c], then y / (1 + exp(-y))
//
// Mean and variance are over all positions and the C/G channels of a group, of one row.
//
// norm_sums: sums (B,P,G,2) float, of x and of x squared over the p-th part of the positions.
//   x (B,N,C): N positions of C channels, C a multiple of 4 and of G
//   Launch: grid (P, B), block (a multiple of C/4, up to 1024).
//
// norm_apply: y (B,N,C) from x and its sums; gain and offset (C) of the type of x.
//   Launch: grid (any, B), block as for norm_sums; P * G up to 2048, G up to 64.
#include "tensor.cuh"

const int MOST_THREADS = 1024, MOST_SUMS = 2048, MOST_GROUPS = 64;

// The positions that a block has of its row, and where this thread's four channels begin.
struct Share {
    int first, last, step, channel;
};

__device__ inline Share share_of(int positions, int channels) {
    const int quads = channels / 4;
    const long long block = blockIdx.x, blocks = gridDim.x;
    Share share;
    share.first = (int)(positions * block / blocks) + threadIdx.x / quads;
    share.last = (int)(positions * (block + 1) / blocks);
    share.step = blockDim.x / quads;
    share.channel = 4 * (threadIdx.x % quads);
    return share;
}

template <typename T>
__device__ inline void norm_sums(const T *x, float *sums, int positions, int channels,
                                 int groups) {
    __shared__ float sum_of[4][MOST_THREADS], square_of[4][MOST_THREADS];
    const int thread = threadIdx.x, threads = blockDim.x, quads = channels / 4;
    const Share share = share_of(positions, channels);
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f}, square[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 4
    for (int position = share.first; position < share.last; position += share.step) {
        float value[4];
        load4(x + ((size_t)blockIdx.y * positions + position) * channels, share.channel, channels,
              value);
        for (int i = 0; i < 4; i++) {
            sum[i] += value[i];
            square[i] += value[i] * value[i];
        }
    }
    for (int i = 0; i < 4; i++) {
        sum_of[i][thread] = sum[i];
        square_of[i][thread] = square[i];
    }
    __syncthreads();
    const int width = channels / groups;
    for (int group = thread; group < groups; group += threads) {
        float all = 0.0f, squares = 0.0f;
        for (int channel = group * width; channel < (group + 1) * width; channel++)
            for (int other = channel / 4; other < threads; other += quads) {
                all += sum_of[channel % 4][other];
                squares += square_of[channel % 4][other];
            }
        float *own = sums + 2 * (((size_t)blockIdx.y * gridDim.x + blockIdx.x) * groups + group);
        own[0] = all;
        own[1] = squares;
    }
}

template <typename T>
__device__ inline void norm_apply(const T *x, const float *sums, const T *gain, const T *offset,
                                  T *y, int positions, int channels, int groups, int parts,
                                  float epsilon, int with_silu) {
    __shared__ float all_sums[2 * MOST_SUMS];
    __shared__ float mean_of[MOST_GROUPS], scale_of[MOST_GROUPS];
    const int thread = threadIdx.x, threads = blockDim.x, width = channels / groups;
    for (int i = thread; i < 2 * parts * groups; i += threads)
        all_sums[i] = sums[(size_t)blockIdx.y * 2 * parts * groups + i];
    __syncthreads();
    for (int group = thread; group < groups; group += threads) {
        float sum = 0.0f, square = 0.0f;
        for (int part = 0; part < parts; part++) {
            sum += all_sums[2 * (part * groups + group)];
            square += all_sums[2 * (part * groups + group) + 1];
        }
        const float count = (float)positions * width, mean = sum / count;
        mean_of[group] = mean;
        scale_of[group] = 1.0f / sqrtf(fmaxf(square / count - mean * mean, 0.0f) + epsilon);
    }
    __syncthreads();
    const Share share = share_of(positions, channels);
    float factor[4], summand[4];
    for (int i = 0; i < 4; i++) {
        const int channel = share.channel + i, group = channel / width;
        factor[i] = scale_of[group] * to_float(gain[channel]);
        summand[i] = to_float(offset[channel]) - mean_of[group] * factor[i];
    }
    for (int position = share.first; position < share.last; position += share.step) {
        const size_t row = ((size_t)blockIdx.y * positions + position) * channels;
        float value[4];
        load4(x + row, share.channel, channels, value);
        for (int i = 0; i < 4; i++) {
            value[i] = value[i] * factor[i] + summand[i];
            if (with_silu) value[i] /= 1.0f + expf(-value[i]);
        }
        store4(y + row, share.channel, channels, value);
    }
}

#define NORM(name, T)                                                                            \
    extern "C" __global__ void __launch_bounds__(MOST_THREADS)                                   \
        norm_sums_##name(const T *x, float *sums, int positions, int channels, int groups) {     \
        norm_sums(x, sums, positions, channels, groups);                                         \
    }                                                                                            \
    extern "C" __global__ void __launch_bounds__(MOST_THREADS)                                   \
        norm_apply_##name(const T *x, const float *sums, const T *gain, const T *offset, T *y,   \
                          int positions, int channels, int groups, int parts, float epsilon,     \
                          int with_silu) {                                                       \
        norm_apply(x, sums, gain, offset, y, positions, channels, groups, parts, epsilon,        \
                   with_silu);                                                                   \
    }
NORM(f32, float)
NORM(f16, Half)
NORM(bf16, BFloat)
